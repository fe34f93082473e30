"""Candidate answers as a tree of tokens: which token may come next, for all rows of a search at once.

The reference keeps a tree of dictionaries and asks it row by row; here the edges lie sorted in one tensor and are looked up
by binary search, so that a step costs no Python per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from inference.drafting.model import BOS, EOS
from inference.errors import InputError

ROOT: Final = 0
NOWHERE: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The nodes of one depth that go on, and the edges that leave them.

    ``nodes``: int64 (n,) numbers, ascending. ``before``: int64 (n,) place of each one's parent among the nodes of the level
    above, and ``by``: int64 (n,) the token that leads here from it (of the root: 0, and bos). ``parents``: int64 (E,) places in
    ``nodes``; ``tokens``, ``children``: int64 (E,) where each edge leads.
    """

    nodes: Tensor
    before: Tensor
    by: Tensor
    parents: Tensor
    tokens: Tensor
    children: Tensor

    @property
    def branches(self) -> bool:
        """Whether there is anything to choose at this level."""
        return len(self.tokens) > len(self.nodes)


class Trie:
    """All candidates, each a sequence of tokens that ends with eos. Nodes are numbered breadth first, the root is 0.

    Implements ``generation.Constraint``.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], vocabulary: int, device: torch.device | None = None) -> None:
        """Raises InputError for no candidate, one without a token, or two with the same tokens."""
        _check(sequences)
        edges, self.ends = _build([(*sequence, EOS) for sequence in sequences])
        parents, tokens = zip(*edges, strict=True)
        self.vocabulary = vocabulary
        self.depth = 1 + max(map(len, sequences))  # tokens of the longest candidate, its eos included
        self.parents = torch.tensor(parents, device=device)  # (E,), ascending
        self.tokens = torch.tensor(tokens, device=device)  # (E,), ascending within a parent
        self.nodes = len(edges) + 1
        self._keys = self.parents * vocabulary + self.tokens  # (E,), ascending; edge i leads to node i + 1

    def allowed(self, tokens: Tensor, begin: Tensor) -> Tensor:
        """See ``generation.Constraint``. Children of each row's node: bool (N, V); every token inside a prefix."""
        at = self._walk(tokens, begin)  # (N,)
        low, high = (torch.searchsorted(self.parents, at, right=right) for right in (False, True))
        counts = high - low  # (N,) edges that leave each row's node
        rows = torch.arange(len(at), device=at.device).repeat_interleave(counts)  # (K,)
        within = torch.arange(len(rows), device=at.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        mask = torch.zeros(len(at), self.vocabulary, dtype=torch.bool, device=at.device)
        mask[rows, self.tokens[low.repeat_interleave(counts) + within]] = True
        return mask | (begin > tokens.shape[1])[:, None]

    def _walk(self, tokens: Tensor, begin: Tensor) -> Tensor:
        """The node each row stands at, -1 off the tree: (N,)."""
        at = torch.full_like(begin, ROOT)
        for place in range(int(begin.min()), tokens.shape[1]):
            key = at * self.vocabulary + tokens[:, place]
            edge = torch.searchsorted(self._keys, key).clamp(max=len(self._keys) - 1)
            found = (self._keys[edge] == key) & (at != NOWHERE)
            at = torch.where(place < begin, at, torch.where(found, edge + 1, NOWHERE))
        return at

    def levels(self) -> Iterator[Level]:
        """From the root down."""
        nodes, edges = self.parents[:1], (self.parents == ROOT).nonzero()[:, 0]
        before, by = torch.zeros_like(nodes), torch.full_like(nodes, BOS)
        while len(edges):
            places = torch.searchsorted(nodes, self.parents[edges])
            yield Level(nodes, before, by, places, self.tokens[edges], edges + 1)
            below = torch.isin(self.parents, edges + 1).nonzero()[:, 0]
            above, nodes, edges = nodes, torch.unique(self.parents[below]), below
            before, by = torch.searchsorted(above, self.parents[nodes - 1]), self.tokens[nodes - 1]


def _check(sequences: Sequence[Sequence[int]]) -> None:
    if not sequences:
        raise InputError("there are no candidates to choose among; give at least one")
    if not all(sequences):
        raise InputError("a candidate is empty; give each at least one letter or digit")
    if any(EOS in sequence for sequence in sequences):
        raise InputError("a candidate holds the end-of-sequence token")
    if len({tuple(sequence) for sequence in sequences}) != len(sequences):
        raise InputError("a candidate is given twice; give each once")


def _build(sequences: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, int]], list[int]]:
    """(parent, token) of the edge to node 1, 2, …; and the node at which each sequence ends."""
    edges: list[tuple[int, int]] = []
    at = [ROOT] * len(sequences)
    for depth in range(max(map(len, sequences))):
        step = {(at[i], s[depth]) for i, s in enumerate(sequences) if depth < len(s)}
        child = {edge: len(edges) + 1 + i for i, edge in enumerate(sorted(step))}
        edges += sorted(step)
        at = [child[at[i], s[depth]] if depth < len(s) else at[i] for i, s in enumerate(sequences)]
    return edges, at
