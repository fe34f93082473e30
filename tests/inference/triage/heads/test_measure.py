"""Figures of merit against scikit-learn, scipy and second formulas; intervals against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, mannwhitneyu, norm
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from inference.triage.heads.measure import (
    BINS,
    auc,
    auc_estimate,
    bootstrap,
    calibration_error,
    interval,
    quality,
    reliability,
    resample,
    share_estimate,
    wilson,
)
from inference.triage.heads.transform import sigmoid

PAIRS = st.lists(st.tuples(st.integers(-4, 4), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40)


@given(PAIRS)
def test_area_equals_scikit_learn_with_ties_and_weights(pairs: list[tuple[int, bool, int]]) -> None:
    scores = np.array([pair[0] for pair in pairs], dtype=float)
    labels = np.array([pair[1] for pair in pairs])
    weights = np.array([[pair[2] for pair in pairs], [1] * len(pairs)], dtype=float)
    for row, area in zip(weights, auc(scores, labels, weights), strict=True):
        if row[labels].sum() and row[~labels].sum():
            assert area == pytest.approx(roc_auc_score(labels, scores, sample_weight=row))
        else:
            assert np.isnan(area)


def test_quality_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(300)
    labels = rng.random(300) < p**2
    found = quality(p, labels)
    assert found.brier == pytest.approx(brier_score_loss(labels, p))
    assert found.log_loss == pytest.approx(log_loss(labels, p))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_by_a_second_formula(pairs: list[tuple[float, bool]]) -> None:
    """Naeini 2015 as published: sum over bins of (share of films) · |mean label − mean probability|, bins by their edges."""
    p, labels = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    total = 0.0
    for k in range(BINS):
        inside = [i for i in range(len(p)) if (k <= p[i] * BINS < k + 1) or (k == BINS - 1 and p[i] == 1)]
        if inside:
            gap = sum(float(labels[i]) for i in inside) / len(inside) - sum(float(p[i]) for i in inside) / len(inside)
            total += len(inside) / len(p) * abs(gap)
    assert calibration_error(p, labels) == pytest.approx(total, abs=1e-12)


def test_probabilities_drawn_from_the_truth_have_a_small_error_and_bent_ones_a_known_one() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(40_000)
    labels = rng.random(40_000) < p
    assert calibration_error(p, labels) < 0.01
    assert calibration_error(np.full(40_000, 0.8), labels) == pytest.approx(0.3, abs=0.01)
    assert sum(one.count for one in reliability(p, labels)) == 40_000


@pytest.mark.parametrize(("hits", "trials"), [(0, 12), (12, 12), (1, 1), (7, 19), (400, 1000)])
def test_wilson_equals_scipy(hits: int, trials: int) -> None:
    wanted = binomtest(hits, trials).proportion_ci(method="wilson")
    assert wilson(hits, trials) == pytest.approx((wanted.low, wanted.high))


def test_resamples_draw_patients_whole() -> None:
    patients = np.array([3, 3, 7, 9, 9, 9])
    weights = resample(patients, seed=0, count=500)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()  # as many patients as there are
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)


def test_interval_equals_scipys_bootstrap() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random(150) < 0.4
    scores = rng.normal(0, 1, 150) + labels
    mine = auc_estimate(scores, labels, np.arange(150), seed=0)

    def statistic(index: np.ndarray) -> float:
        y, s = labels[index.astype(int)], scores[index.astype(int)]
        return float(mannwhitneyu(s[y], s[~y], method="asymptotic").statistic / (y.sum() * (~y).sum()))

    theirs = scipy_bootstrap(
        (np.arange(150),), statistic, n_resamples=1000, method="percentile", vectorized=False, rng=np.random.default_rng(0)
    ).confidence_interval
    assert mine.value == pytest.approx(roc_auc_score(labels, scores))
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Two normals one apart have an area of Φ(1/√2); films come in pairs of one patient, nearly alike."""
    truth, rng, hits = float(norm.cdf(1 / np.sqrt(2))), np.random.default_rng(4), 0
    for trial in range(200):
        labels = np.repeat(np.arange(60) < 30, 2)
        scores = np.repeat(rng.normal(0, 1, 60), 2) + rng.normal(0, 0.05, 120) + labels
        patients = np.repeat(np.arange(60), 2)
        low, high = interval(bootstrap(lambda w, s=scores, y=labels: auc(s, y, w), patients, trial, 200))
        hits += low <= truth <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_by_films_the_interval_would_be_too_narrow() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(40) < 20, 5)
    scores = np.repeat(rng.normal(0, 1, 40), 5) + labels
    whole = auc_estimate(scores, labels, np.repeat(np.arange(40), 5), seed=0)
    split = auc_estimate(scores, labels, np.arange(200), seed=0)
    assert whole.high - whole.low > 1.6 * (split.high - split.low)


def test_classes_that_do_not_overlap_promise_no_certainty() -> None:
    labels = np.arange(60) < 20
    found = auc_estimate(labels.astype(float), labels, np.arange(60) // 2, seed=0)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(wilson(10, 10)[0])


@pytest.mark.parametrize("hit", [True, False])
def test_a_share_of_all_or_none_promises_no_certainty(hit: bool) -> None:
    found = share_estimate(np.full(20, hit), np.arange(20) // 2, seed=0)
    assert found.value == float(hit)
    assert found.high - found.low > 0.2


def test_a_share_is_within_its_interval() -> None:
    rng = np.random.default_rng(6)
    found = share_estimate(rng.random(300) < 0.7, np.arange(300), seed=0)
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 300), rel=0.2)


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid([-1e4, 0, 1e4]).tolist() == [0, 0.5, 1]
