"""Exact search against a full sort in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.triage import retrieval
from inference.triage.retrieval import nearest


def unit_rows(rng: np.random.Generator, rows: int, width: int = 16) -> np.ndarray:
    values = rng.standard_normal((rows, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 200),
    top=st.integers(1, 30),
    share=st.floats(0, 1),
    chunk=st.integers(1, 64),
)
def test_equals_a_full_sort(seed: int, rows: int, top: int, share: float, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = unit_rows(rng, rows)
    matrix[rng.random(rows) < 0.3] = matrix[0]  # ties
    query = rng.standard_normal(16).astype(np.float32)
    among = np.flatnonzero(rng.random(rows) < share)
    before, retrieval._CHUNK = retrieval._CHUNK, chunk  # type: ignore[misc]
    try:
        hits = nearest(matrix, query, top, among)
    finally:
        retrieval._CHUNK = before  # type: ignore[misc]
    exact = matrix.astype(np.float64) @ (query.astype(np.float64) / np.linalg.norm(query.astype(np.float64)))
    assert len(hits) == min(top, len(among))
    wanted = sorted(exact[among], reverse=True)[:top]
    assert [hit.cosine for hit in hits] == pytest.approx(wanted, abs=1e-5)
    assert [exact[hit.row] for hit in hits] == pytest.approx(wanted, abs=1e-5)
    assert len({hit.row for hit in hits}) == len(hits)
    assert {hit.row for hit in hits} <= set(among.tolist())


def test_of_equal_rows_the_earlier_comes_first() -> None:
    matrix = np.tile(np.eye(1, 8, dtype=np.float16), (50, 1))
    assert [hit.row for hit in nearest(matrix, np.eye(1, 8, dtype=np.float32)[0], 5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("query", "top"),
    [
        (np.zeros(8, np.float32), 1),
        (np.full(8, np.nan, np.float32), 1),
        (np.ones(7, np.float32), 1),
        (np.ones(8, np.float32), 0),
    ],
    ids=["no direction", "not a number", "another width", "none wanted"],
)
def test_refuses(query: np.ndarray, top: int) -> None:
    with pytest.raises(ValueError, match=r"query"):
        nearest(np.eye(8, dtype=np.float16), query, top)
