"""Exact nearest neighbours among unit vectors: no approximate index, so a filter never costs a hit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_CHUNK: Final = 16384  # rows widened to float32 at once: 32 MiB at width 512


@dataclass(frozen=True, slots=True)
class Hit:
    """``row`` of the matrix and the cosine of its vector with the query, -1..1."""

    row: int
    cosine: float


def nearest(
    matrix: NDArray[np.float16], query: NDArray[np.float32], top: int, rows: NDArray[np.int64] | None = None
) -> tuple[Hit, ...]:
    """The ``top`` rows nearest to ``query``, best first; of equal ones the earlier row first.

    ``matrix``: float16 (rows, width) of unit vectors, memory-mapped or not. ``query``: float32 (width,), made unit here.
    ``rows``: ascending row numbers to search among, or all. Raises ValueError where the widths differ, ``top`` is below 1 or
    the query has no direction.
    """
    if top < 1 or query.shape != matrix.shape[1:]:
        raise ValueError(f"top {top} of {matrix.shape} by a query of {query.shape}")
    length = float(np.linalg.norm(query))
    if not np.isfinite(length) or length == 0:
        raise ValueError("the query has no direction")
    count = len(matrix) if rows is None else len(rows)
    scores = np.empty(count, np.float32)
    unit = (query / length).astype(np.float32)
    for start in range(0, count, _CHUNK):
        part = matrix[start : start + _CHUNK] if rows is None else matrix[rows[start : start + _CHUNK]]
        scores[start : start + _CHUNK] = part.astype(np.float32) @ unit
    best = _best(scores, top)
    return tuple(Hit(int(i if rows is None else rows[i]), float(scores[i])) for i in best)


def _best(scores: NDArray[np.float32], top: int) -> NDArray[np.int64]:
    if top < len(scores):
        least = np.partition(scores, len(scores) - top)[len(scores) - top]
        candidates = np.flatnonzero(scores >= least)  # ties at the edge included, so that the earlier row wins
    else:
        candidates = np.arange(len(scores))
    order = np.lexsort((candidates, -scores[candidates]))[:top]
    chosen: NDArray[np.int64] = candidates[order].astype(np.int64)
    return chosen
