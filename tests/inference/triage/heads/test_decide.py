"""Thresholds and bands: what they promise, tried on films they have not seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import norm

from inference.triage.heads.decide import Wish, cut_for, gap_for
from inference.triage.heads.measure import Bools, Floats
from inference.triage.heads.transform import sigmoid

SHIFT = 1.5  # between the margins of films with and without


def draw(rng: np.random.Generator, positives: int, negatives: int) -> tuple[Floats, Bools]:
    labels = np.arange(positives + negatives) < positives
    return sigmoid(rng.normal(0, 1, len(labels)) + SHIFT * labels), labels


@pytest.mark.parametrize("wish", [Wish("sensitivity", 0.9), Wish("specificity", 0.8), Wish("sensitivity", 0.95)], ids=str)
def test_new_films_pass_as_wished(wish: Wish) -> None:
    """On average over calibration sets the share of new films is at least the wish and hardly more (Vovk 2005).

    The share is by the normal distributions that the films are drawn from, not by counting.
    """
    rng, reached = np.random.default_rng(0), []
    for trial in range(40):
        p, labels = draw(rng, 60, 60)
        cut = cut_for(p, labels, np.arange(120), wish, trial)
        below = norm.cdf(logit(cut.threshold.value) - (SHIFT if wish.kind == "sensitivity" else 0))
        reached.append(1 - below if wish.kind == "sensitivity" else below)
        assert cut.promised
        assert cut.threshold.low <= cut.threshold.value <= cut.threshold.high
    error = 3 * np.sqrt(wish.share * (1 - wish.share) / 60 / len(reached))
    assert cut.wished.low < wish.share < cut.wished.high
    assert wish.share - error < np.mean(reached) < wish.share + 1 / 61 + 0.01 + error


def test_intervals_cover_what_new_films_show() -> None:
    """Of 90 sets, the interval of the wished share and of the other one hold the truth in about 95 %."""
    rng, own, other = np.random.default_rng(5), 0, 0
    for trial in range(90):
        p, labels = draw(rng, 50, 70)
        cut = cut_for(p, labels, np.arange(120), Wish("sensitivity", 0.9), trial)
        margin = logit(cut.threshold.value)
        own += cut.wished.low <= norm.sf(margin - SHIFT) <= cut.wished.high
        other += cut.other.low <= norm.cdf(margin) <= cut.other.high
    assert 0.89 <= own / 90 <= 1.0
    assert 0.88 <= other / 90 <= 0.99


def test_films_of_one_patient_are_worth_one() -> None:
    p, labels = draw(np.random.default_rng(6), 60, 60)
    wish = Wish("sensitivity", 0.9)
    alone, shared = (cut_for(p, labels, np.arange(120) // per, wish, 0) for per in (1, 6))
    assert shared.wished.high - shared.wished.low > 1.5 * (alone.wished.high - alone.wished.low)


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=2, max_size=50), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_labelled_films_themselves_pass(films: list[tuple[float, bool]], share: float) -> None:
    p, labels = np.array([film[0] for film in films]), np.array([film[1] for film in films])
    if labels.all() or not labels.any():
        return
    for kind, own in (("sensitivity", labels), ("specificity", ~labels)):
        cut = cut_for(p, labels, np.arange(len(p)), Wish(kind, share), 0)  # type: ignore[arg-type]
        called = p >= cut.threshold.value
        right = called if kind == "sensitivity" else ~called
        assert right[own].mean() >= share
        assert 0 <= cut.threshold.value <= 1
        assert cut.promised == ((1 - share) * (own.sum() + 1) >= 1 - 1e-9)


def test_too_few_films_are_all_called_and_nothing_is_promised() -> None:
    p, labels = draw(np.random.default_rng(1), 12, 40)
    cut = cut_for(p, labels, np.arange(52), Wish("sensitivity", 0.95), 0)
    assert not cut.promised
    assert (p[labels] >= cut.threshold.value).all()


def test_new_films_outside_the_band_are_wrong_at_most_at_the_rate() -> None:
    rng, missed, false = np.random.default_rng(2), [], []
    for _ in range(1500):
        gap = gap_for(*draw(rng, 80, 80), 0.1)
        assert gap is not None
        missed.append(norm.cdf(logit(gap.low) - SHIFT))
        false.append(norm.sf(logit(gap.high)))
    for rate in (np.mean(missed), np.mean(false)):
        assert 8 / 81 - 0.0026 < rate < 8 / 81 + 0.0026  # exactly 8 of 81 ranks; three standard errors of 1,500 sets


def test_classes_far_apart_need_no_band() -> None:
    p, labels = np.r_[np.full(40, 0.1), np.full(40, 0.9)], np.arange(80) >= 40
    assert gap_for(p, labels, 0.1) is None


def test_a_band_needs_films_enough() -> None:
    p, labels = draw(np.random.default_rng(3), 8, 50)
    with pytest.raises(ValueError, match="needs 9 films with and without"):
        gap_for(p, labels, 0.1)
    assert gap_for(*draw(np.random.default_rng(3), 9, 50), 0.1) is not None
