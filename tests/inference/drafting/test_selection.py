"""The best of a vocabulary, its mass, and what is forbidden, against the plain way to say each."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.drafting.selection import best, forbid_repeats, force, log_mass, refine


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([7, 64, 700, 3001, 5003]), st.sampled_from([1, 2, 10, 20]))
def test_the_best_are_those_of_topk(seed: int, rows: int, width: int, count: int) -> None:
    torch.manual_seed(seed)
    values = torch.randn(rows, width)
    values[:, torch.randperm(width)[: width // 2]] = -math.inf
    count = min(count, width)
    found, places = best(values, count)
    assert torch.equal(found, values.topk(count, dim=1).values)
    assert torch.equal(values.gather(1, places), found)
    assert all(len(set(row)) == count for row in places.tolist())


def test_the_best_of_a_part_of_a_wider_table() -> None:
    table = torch.randn(4, 6000)
    found, places = best(table[:, 500:5500], 3)
    assert torch.equal(found, table[:, 500:5500].topk(3, dim=1).values)
    assert torch.equal(table[:, 500:5500].gather(1, places), found)


MASSES = {
    "ordinary": [1.0, 2.0, -3.0],
    "far apart": [500.0, -500.0, 0.0],
    "some forbidden": [-math.inf, 1.0, -math.inf],
    "very low": [-1e30, -1e30, -1e30],
}


@pytest.mark.parametrize("row", MASSES.values(), ids=MASSES)
def test_mass(row: list[float]) -> None:
    logits = torch.tensor([row])
    torch.testing.assert_close(log_mass(logits), logits.logsumexp(1, keepdim=True))


def test_a_row_that_allows_nothing_has_no_mass() -> None:
    assert log_mass(torch.full((1, 4), -math.inf)).isnan().all()


def test_refined_logits_are_exact_where_they_decide() -> None:
    torch.manual_seed(0)
    embedding, features = torch.randn(3000, 32), torch.randn(5, 32).bfloat16()
    exact = features.float() @ embedding.T
    rounded = (features @ embedding.T.bfloat16()).float()
    rounded[:, 7] = exact[:, 7] = -math.inf
    assert not torch.allclose(rounded, exact, atol=1e-3)
    refined = refine(rounded.clone(), features, embedding, 8)
    torch.testing.assert_close(refined.topk(4).values, exact.topk(4).values)
    assert torch.equal(refined.topk(4).indices, exact.topk(4).indices)
    assert (refined != rounded).sum() <= 5 * 8
    assert (refined[:, 7] == -math.inf).all()


nine = st.lists(st.integers(4, 8), min_size=9, max_size=9)


@given(st.lists(nine, min_size=1, max_size=4), st.integers(0, 8), st.integers(1, 4))
def test_repeats(rows: list[list[int]], at: int, size: int) -> None:
    logits = torch.zeros(len(rows), 10)
    forbid_repeats(logits, torch.tensor(rows), torch.tensor([at]), size)
    for row, found in zip(rows, logits, strict=True):
        said = row[: at + 1]
        grams = {tuple(said[i : i + size]) for i in range(len(said) - size + 1)}
        last = said[len(said) - size + 1 :] if size > 1 else []
        wanted = {token for token in range(10) if len(last) == size - 1 and (*last, token) in grams}
        assert {int(token) for token in (found == -math.inf).nonzero()} - {1} == wanted


def test_repeats_longer_than_there_is_room_for() -> None:
    logits = torch.zeros(1, 6)
    forbid_repeats(logits, torch.tensor([[0, 4]]), torch.tensor([1]), 3)
    assert (logits == 0).all()


def test_force() -> None:
    logits = torch.arange(10.0).view(2, 5)
    forced = force(logits, torch.tensor([3, 1]))
    assert forced[0].tolist() == [-math.inf] * 3 + [3.0, -math.inf]
    assert torch.equal(forced[1], logits[1])  # 1 is padding: this row's prefix has run out
