"""The tree of candidates against brute force over all of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.drafting.model import BOS, EOS
from inference.drafting.trie import Trie
from inference.errors import InputError

VOCABULARY = 9
tokens = st.integers(3, VOCABULARY - 1)
candidates = st.lists(st.lists(tokens, min_size=1, max_size=5), min_size=1, max_size=8, unique_by=tuple)
rows = st.lists(st.sampled_from([EOS, *range(3, VOCABULARY)]), max_size=6)


def following(sequences: list[list[int]], row: list[int]) -> set[int]:
    """What may follow a row: by looking through every candidate."""
    ended = [[*sequence, EOS] for sequence in sequences]
    return {sequence[len(row)] for sequence in ended if sequence[: len(row)] == row and len(sequence) > len(row)}


@given(candidates, st.lists(st.tuples(st.lists(tokens, max_size=3), rows), min_size=1, max_size=5), st.data())
def test_allowed_equals_brute_force(
    sequences: list[list[int]], given_rows: list[tuple[list[int], list[int]]], data: st.DataObject
) -> None:
    """Rows of one length with prefixes of different lengths; half of them on the tree."""
    width = max(len(prefix) + len(row) for prefix, row in given_rows)
    whole, begins, wanted = [], [], []
    for prefix, row in given_rows:
        if data.draw(st.booleans()):
            row = data.draw(st.sampled_from(sequences))[: len(row)]
        own = (row + [3] * width)[: width - len(prefix)] if len(prefix) <= width else []
        whole.append([BOS, *prefix, *own][: width + 1])
        begins.append(1 + len(prefix))
        wanted.append(following(sequences, own))
    mask = Trie(sequences, VOCABULARY).allowed(torch.tensor(whole), torch.tensor(begins))
    assert [set(row.nonzero()[:, 0].tolist()) for row in mask] == wanted


@given(candidates)
def test_every_token_is_allowed_inside_a_prefix(sequences: list[list[int]]) -> None:
    mask = Trie(sequences, VOCABULARY).allowed(torch.tensor([[BOS, 5], [BOS, 5]]), torch.tensor([3, 2]))
    assert mask[0].all()
    assert set(mask[1].nonzero()[:, 0].tolist()) == following(sequences, [])


@given(candidates)
def test_levels_hold_every_edge_once_and_each_candidate_has_its_end(sequences: list[list[int]]) -> None:
    trie = Trie(sequences, VOCABULARY)
    paths: dict[int, list[int]] = {0: []}
    above: list[int] = []
    for level in trie.levels():
        nodes = level.nodes.tolist()
        if above:
            assert all(
                paths[node] == [*paths[above[b]], t]
                for node, b, t in zip(nodes, level.before.tolist(), level.by.tolist(), strict=True)
            )
        for parent, token, child in zip(level.parents.tolist(), level.tokens.tolist(), level.children.tolist(), strict=True):
            paths[child] = [*paths[nodes[parent]], token]
        above = nodes
    assert sorted(paths) == list(range(trie.nodes))
    assert len({tuple(path) for path in paths.values()}) == trie.nodes
    assert [paths[end] for end in trie.ends] == [[*sequence, EOS] for sequence in sequences]
    assert trie.depth == max(map(len, paths.values()))


def test_a_candidate_that_begins_another() -> None:
    trie = Trie([[5, 6], [5]], VOCABULARY)
    assert trie.allowed(torch.tensor([[BOS, 5]]), torch.tensor([1]))[0].nonzero()[:, 0].tolist() == [EOS, 6]


FAULTS = {
    "none": ([], "no candidates"),
    "an empty one": ([[5], []], "empty"),
    "one twice": ([[5], [6], [5]], "twice"),
    "one that ends itself": ([[5, EOS, 6]], "end-of-sequence"),
}


@pytest.mark.parametrize(("sequences", "message"), FAULTS.values(), ids=FAULTS)
def test_lists_that_cannot_be_chosen_from_are_refused(sequences: list[list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trie(sequences, VOCABULARY)
