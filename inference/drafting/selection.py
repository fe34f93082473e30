"""Which tokens may come next, and the best of them, without sorting or rewriting the whole vocabulary."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from inference.drafting.layers import MASKED
from inference.drafting.model import PAD

CHUNK: Final = 64


def best(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` highest of each row of (N, V), best first, and where they stand: each (N, count).

    The highest lie in the chunks with the highest maxima, so that only those are sorted.
    """
    chunks, rest = divmod(values.shape[1], CHUNK)
    if chunks < 4 * count:
        return values.topk(count, dim=1)
    cut = values.as_strided((len(values), chunks, CHUNK), (values.stride(0), CHUNK, 1), values.storage_offset())
    where = cut.amax(dim=2).topk(count, dim=1).indices  # (N, count)
    few = cut.gather(1, where[:, :, None].expand(-1, -1, CHUNK)).flatten(1)  # (N, count · CHUNK)
    places = (where[:, :, None] * CHUNK + torch.arange(CHUNK, device=values.device)).flatten(1)
    if rest:
        tail = torch.arange(chunks * CHUNK, values.shape[1], device=values.device).expand(len(values), -1)
        few, places = torch.cat([few, values[:, chunks * CHUNK :]], dim=1), torch.cat([places, tail], dim=1)
    highest, which = few.topk(count, dim=1)
    return highest, places.gather(1, which)


def log_mass(logits: Tensor) -> Tensor:
    """log Σ exp of each row of (N, V): (N, 1), NaN where a row allows nothing."""
    peak = logits.amax(dim=1, keepdim=True)
    # exp(-80) adds nothing to a sum that is at least 1, and what lies below costs a hundred times as much: subnormal numbers.
    return (logits - peak).clamp_min_(-80.0).exp_().sum(dim=1, keepdim=True).log_().add_(peak)


def refine(logits: Tensor, features: Tensor, embedding: Tensor, count: int) -> Tensor:
    """Recompute the ``count`` highest logits of each row in float32, in place: what decides is then not rounded to 8 bits.

    ``features``: (N, d) of which the logits (N, V) were made; ``embedding``: float32 (V, d).
    """
    found, places = best(logits, min(count, logits.shape[1]))
    rows = functional.embedding(places, embedding)  # (N, count, d)
    exact = torch.bmm(rows, features.float()[:, :, None])[:, :, 0]
    return logits.scatter_(1, places, exact.where(found != MASKED, MASKED))


def forbid_repeats(logits: Tensor, tokens: Tensor, at: Tensor, size: int) -> None:
    """Forbid each token that would complete an n-gram its row already holds; the first token counts.

    ``tokens``: int64 (N, T), of which 0..``at`` are written; ``at``: int64 (1,).
    """
    if tokens.shape[1] < size:
        return
    grams = tokens.unfold(1, size, 1)  # (N, places, n)
    offsets = torch.arange(2 - size, 1, device=tokens.device)
    recent = tokens.index_select(1, (at + offsets).clamp_min(0))  # (N, n - 1)
    written = torch.arange(size - 1, tokens.shape[1], device=tokens.device) <= at  # (places,)
    repeats = (grams[:, :, :-1] == recent[:, None]).all(dim=2) & written  # (N, places)
    logits.scatter_(1, grams[:, :, -1].where(repeats, PAD), MASKED)  # padding is forbidden anyway


def force(logits: Tensor, wanted: Tensor) -> Tensor:
    """Leave only the wanted token of each row possible, int64 (N,), where it is not padding."""
    others = torch.arange(logits.shape[1], device=logits.device) != wanted[:, None]  # (N, V)
    return logits.masked_fill(others & (wanted != PAD)[:, None], MASKED)
