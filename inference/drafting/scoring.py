"""Log-probabilities of every candidate, exactly, as the reference's all-candidate evaluation gives them.

The reference teacher-forces each candidate after the prompt, masks the logits to the candidates' tree before the softmax, and
adds up. Here each node of the tree is visited once: candidates that begin alike share their steps, and all share the prompt's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from inference.drafting.layers import MASKED
from inference.drafting.model import BOS, PAD, DecoderState, Encoded, Ofa
from inference.drafting.trie import Level, Trie

ROWS: Final = 1024  # nodes at once, of all images of a batch


@torch.inference_mode()
def score_candidates(model: Ofa, encoded: Encoded, prefixes: Sequence[Sequence[int]], trie: Trie) -> Tensor:
    """Sum of log-probabilities of each candidate's tokens and its eos, given the prompt: float32 (B, C), each ≤ 0.

    ``prefixes``: what the decoder is given of each row, bos left out. exp of a row adds up to 1 over the candidates.
    """
    levels = list(trie.levels())
    asked = max((depth for depth, level in enumerate(levels, 1) if level.branches), default=0)
    at_once = max(1, ROWS // max((len(level.nodes) for level in levels[:asked]), default=1))
    found = torch.zeros(len(prefixes), len(trie.ends), device=encoded.out.device)
    for rows in _batches(prefixes, at_once, mixed=asked < 2):
        place = torch.tensor(rows, device=encoded.out.device)
        part = replace(encoded, out=encoded.out[place], padding=encoded.padding[place])
        found[place] = _score(model, part, [prefixes[i] for i in rows], trie, levels, asked)
    return found


def _batches(prefixes: Sequence[Sequence[int]], size: int, *, mixed: bool) -> Iterator[list[int]]:
    """Rows to score together: with prefixes of one length where tokens follow them, so that these stand at one position."""
    groups: dict[int, list[int]] = {}
    for row, prefix in enumerate(prefixes):
        groups.setdefault(0 if mixed else len(prefix), []).append(row)
    for rows in groups.values():
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _score(
    model: Ofa, encoded: Encoded, prefixes: Sequence[Sequence[int]], trie: Trie, levels: Sequence[Level], asked: int
) -> Tensor:
    """``asked``: how many levels the model is asked about; below them each node has one child, which is certain."""
    images, device = len(prefixes), encoded.out.device
    state = model.decoder.begin(encoded, 1 + max(map(len, prefixes)) + asked)
    sums = torch.zeros(images, trie.nodes, device=device)  # (B, all nodes) down to each
    for depth, level in enumerate(levels):
        onto = sums[:, level.nodes[level.parents]]  # (B, E)
        if depth < asked:
            above = len(levels[depth - 1].nodes)
            features = _next(model, state, level, images, above) if depth else _first(model, state, prefixes)
            onto = onto + _edges(features, model.embed_tokens.weight, level)
        sums[:, level.children] = onto
    return sums[:, torch.tensor(trie.ends, device=device)]  # (B, C)


def _first(model: Ofa, state: DecoderState, prefixes: Sequence[Sequence[int]]) -> Tensor:
    """Features (B, 1, d) after each prompt. Prompts are padded at the end, which no position before can see."""
    longest, device = max(map(len, prefixes)), model.embed_tokens.weight.device
    given = torch.tensor([[BOS, *prefix, *[PAD] * (longest - len(prefix))] for prefix in prefixes], device=device)
    last = torch.tensor([len(prefix) for prefix in prefixes], device=device)
    features: Tensor = model.decoder(model.embed(given), state)  # (B, 1 + longest, d)
    return features[torch.arange(len(prefixes), device=device), last][:, None]


def _next(model: Ofa, state: DecoderState, level: Level, images: int, above: int) -> Tensor:
    """Features (B, n, d) at each node of a level, gone on to from the ``above`` nodes of the level before it."""
    images_first = torch.arange(images, device=level.before.device)[:, None] * above
    state.reorder((images_first + level.before).flatten())  # (B·above) -> (B·n)
    features: Tensor = model.decoder(model.embed(level.by.repeat(images)[:, None]), state)  # (B·n, 1, d)
    return features.view(images, len(level.nodes), -1)


def _edges(features: Tensor, embedding: Tensor, level: Level) -> Tensor:
    """Log-probability of each edge among those that leave its node. ``features``: (B, n, d) → (B, E).

    Logits are formed of the tokens on the edges only: all others are masked.
    """
    tokens, column = torch.unique(level.tokens, return_inverse=True)  # (U,), (E,)
    logits = functional.linear(features.to(embedding.dtype), embedding[tokens]).float()  # (B, n, U)
    others = torch.ones(logits.shape[1:], dtype=torch.bool, device=logits.device)
    others[level.parents, column] = False
    return logits.masked_fill(others, MASKED).log_softmax(2)[:, level.parents, column]
