"""Aggregation against plain numpy: the number, the image that decided, and the words for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.triage.aggregation import Aggregation, Rule, aggregate

Study = list[tuple[float, str]]

probabilities = st.floats(0, 1, width=32)
studies = st.lists(st.tuples(probabilities, st.sampled_from("abc")), min_size=1, max_size=40)


def column(study: Study) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], list[str]]:
    return np.array([p for p, _ in study], np.float32), [series for _, series in study]


def plain(study: Study, rule: Rule, k: int) -> float:
    """The rule said again without an array: sort, cut, average."""
    if rule is Rule.MAX:
        return max(p for p, _ in study)
    if rule is Rule.PER_SERIES:
        return max(plain([item for item in study if item[1] == name], Rule.TOP_K_MEAN, k) for _, name in study)
    top = sorted((p for p, _ in study), reverse=True)[:k]
    return sum(top) / len(top)


@given(studies, st.sampled_from(Rule), st.integers(1, 8))
def test_the_number_is_the_rules(study: Study, rule: Rule, k: int) -> None:
    values, series = column(study)
    found = aggregate(values, series, Aggregation(rule, k))
    assert found.probability == pytest.approx(plain(study, rule, k), abs=1e-6)
    assert 0 <= found.probability <= 1


@given(studies, st.sampled_from(Rule), st.integers(1, 8))
def test_the_deciding_image_is_the_highest_of_those_averaged(study: Study, rule: Rule, k: int) -> None:
    values, series = column(study)
    best = aggregate(values, series, Aggregation(rule, k)).best
    rivals = [i for i, name in enumerate(series) if rule is not Rule.PER_SERIES or name == series[best]]
    assert best == min(i for i in rivals if values[i] == max(values[j] for j in rivals))


@given(studies, st.integers(1, 8))
def test_the_order_of_images_does_not_change_the_number(study: Study, k: int) -> None:
    for rule in Rule:
        one, other = column(study), column(study[::-1])
        how = Aggregation(rule, k)
        assert aggregate(*one, how).probability == pytest.approx(aggregate(*other, how).probability, abs=1e-9)


MAX, TOP, EACH = Aggregation(Rule.MAX), Aggregation(Rule.TOP_K_MEAN, 3), Aggregation(Rule.PER_SERIES, 3)

CASES = {
    "one frame, max": (MAX, [(0.4, "a")], 0.4, 0, "the only image"),
    "one frame, top-k": (TOP, [(0.4, "a")], 0.4, 0, "the only image"),
    "one frame, per series": (EACH, [(0.4, "a")], 0.4, 0, "the only image of one series"),
    "max": (MAX, [(0.1, "a"), (0.9, "b"), (0.3, "a")], 0.9, 1, "highest of 3 images"),
    "max, a tie: the earliest": (MAX, [(0.9, "a"), (0.9, "b")], 0.9, 0, "highest of 2 images"),
    "top-k": (TOP, [(0.2, "a"), (0.8, "a"), (0.5, "b"), (0.5, "a")], 0.6, 1, "mean of the 3 highest of 4 images"),
    "top-k, fewer than k": (TOP, [(0.2, "a"), (0.8, "a")], 0.5, 1, "mean of all 2 images"),
    "top-k, one odd slice": (
        TOP,
        [(0.0, "a"), (0.9, "a"), (0.0, "a"), (0.0, "a")],
        0.3,
        1,
        "mean of the 3 highest of 4 images",
    ),
    "per series": (
        EACH,
        [(0.9, "a"), (0.0, "a"), (0.0, "a"), (0.6, "b"), (0.3, "b"), (0.6, "b"), (0.0, "b")],
        0.5,
        3,
        "mean of the 3 highest of 4 images of the highest of 2 series",
    ),
    "per series, a tie: the earliest": (EACH, [(0.5, "b"), (0.5, "a")], 0.5, 0, "the only image of the highest of 2 series"),
    "per series, k 1": (
        Aggregation(Rule.PER_SERIES, 1),
        [(0.5, "b"), (0.7, "a"), (0.1, "a")],
        0.7,
        1,
        "highest of 2 images of the highest of 2 series",
    ),
}


@pytest.mark.parametrize(("how", "study", "probability", "best", "words"), CASES.values(), ids=CASES.keys())
def test_named_cases(how: Aggregation, study: Study, probability: float, best: int, words: str) -> None:
    found = aggregate(*column(study), how)
    assert found.probability == pytest.approx(probability, abs=1e-7)
    assert (found.best, found.words) == (best, words)


@pytest.mark.parametrize(
    ("values", "series"),
    [([], []), ([0.1], ["a", "b"]), ([np.nan], ["a"]), ([0.1, np.inf], ["a", "a"])],
    ids=["no image", "lengths", "no number", "infinite"],
)
def test_what_cannot_be_aggregated_is_refused(values: list[float], series: list[str]) -> None:
    with pytest.raises(ValueError, match=r"probabilit"):
        aggregate(np.array(values, np.float32), series, MAX)
