"""Fitting and applying against scikit-learn's own calibrators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from inference.errors import HeadError
from inference.triage.heads.fit_transform import (
    AS_IT_IS,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    fit_transform,
    shift_prior,
)
from inference.triage.heads.measure import quality
from inference.triage.heads.transform import Transform
from tests.inference.triage.heads.drawn import drawn_films

FILMS = drawn_films(1500)
NEW = np.linspace(-14, 14, 101)


def test_temperature_is_the_logistic_regression_without_intercept() -> None:
    """Against Platt's targets: each film counts as present by its target and as absent by the rest."""
    count = int(FILMS.labels.sum())
    targets = np.where(FILMS.labels, (count + 1) / (count + 2), 1 / (len(FILMS.labels) - count + 2))
    oracle = LogisticRegression(C=1e8, fit_intercept=False, tol=1e-8).fit(
        np.tile(FILMS.scores, 2)[:, None], np.arange(3000) < 1500, sample_weight=np.r_[targets, 1 - targets]
    )
    found = fit_temperature(FILMS.scores, FILMS.labels)
    assert found.slope == pytest.approx(float(oracle.coef_[0, 0]), rel=1e-3)
    np.testing.assert_allclose(found(NEW), oracle.predict_proba(NEW[:, None])[:, 1], atol=1e-4)


def test_platt_is_scikit_learns() -> None:
    scorer = LogisticRegression().fit(FILMS.scores[:, None], FILMS.labels)  # its decision function is a line of the margin
    oracle = CalibratedClassifierCV(FrozenEstimator(scorer), method="sigmoid").fit(FILMS.scores[:, None], FILMS.labels)
    found = fit_platt(FILMS.scores, FILMS.labels)
    np.testing.assert_allclose(found(NEW), oracle.predict_proba(NEW[:, None])[:, 1], atol=2e-3)
    assert (found.slope, found.offset) == pytest.approx((0.5, -1.0), abs=0.15)  # as drawn


def test_isotonic_is_scikit_learns_kept_from_the_ends() -> None:
    edge = 1 / (len(FILMS.labels) + 2)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(FILMS.scores, FILMS.labels)
    np.testing.assert_allclose(
        fit_isotonic(FILMS.scores, FILMS.labels)(NEW), np.clip(oracle.predict(NEW), edge, 1 - edge), atol=1e-6
    )


def test_auto_takes_the_least_out_of_fold_loss_and_calibrates() -> None:
    before = quality(FILMS.before, FILMS.labels)
    done = fit_transform(FILMS.scores, FILMS.labels, FILMS.patients, "auto", 0)
    assert done.transform.kind == "platt"  # the truth is drawn so
    assert min(done.losses, key=lambda kind: done.losses[kind]) == "platt"
    after = quality(done.out_of_fold, FILMS.labels)
    assert before.ece > 0.12
    assert after.ece < before.ece / 3
    assert after.log_loss < before.log_loss


def test_what_is_already_right_is_left_as_it_is() -> None:
    films = drawn_films(150, seed=8, slope=1.0, offset=0.0)
    done = fit_transform(films.scores, films.labels, films.patients, "auto", 0)
    assert min(done.losses, key=lambda kind: done.losses[kind]) == AS_IT_IS
    np.testing.assert_allclose(done.transform(NEW), expit(NEW), rtol=1e-6)


def test_out_of_fold_is_not_in_sample() -> None:
    films = drawn_films(60, seed=3)
    done = fit_transform(films.scores, films.labels, films.patients, "isotonic", 0)
    assert quality(done.out_of_fold, films.labels).brier > quality(done.transform(films.scores), films.labels).brier


@pytest.mark.parametrize("method", ["isotonic", "temperature", "auto"])
def test_scores_that_fall_with_the_finding_are_not_turned_round(method: str) -> None:
    done = fit_transform(-FILMS.scores, FILMS.labels, FILMS.patients, method, 0)  # type: ignore[arg-type]
    assert (np.diff(done.transform(NEW)) >= 0).all()


def test_platt_refuses_scores_that_fall_with_the_finding() -> None:
    with pytest.raises(HeadError, match="falls where the finding is present"):
        fit_platt(-FILMS.scores, FILMS.labels)
    with pytest.raises(HeadError, match="does not rise with the finding"):
        fit_transform(-FILMS.scores, FILMS.labels, FILMS.patients, "platt", 0)


def test_separable_classes_still_leave_doubt() -> None:
    margins, labels = np.r_[-3 - np.arange(20), 3 + np.arange(20)].astype(float), np.arange(40) >= 20
    for fit in (fit_temperature, fit_platt, fit_isotonic):
        p = fit(margins, labels)(margins)
        assert 1e-4 < p.min() <= p.max() < 1 - 1e-4


def test_a_prior_shift_is_bayes_rule() -> None:
    transform = shift_prior(Transform("platt", slope=1, offset=0.3), 0.5, 0.05)
    p = expit(NEW + 0.3)
    wanted = p * 0.05 / 0.5 / (p * 0.05 / 0.5 + (1 - p) * 0.95 / 0.5)
    np.testing.assert_allclose(transform(NEW), wanted, rtol=1e-5)
    stairs = shift_prior(fit_isotonic(FILMS.scores, FILMS.labels), 0.3, 0.3)
    np.testing.assert_allclose(stairs(NEW), fit_isotonic(FILMS.scores, FILMS.labels)(NEW), atol=1e-6)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
@pytest.mark.parametrize(
    "transform",
    [Transform("temperature", slope=0.3), Transform("isotonic", knots=(-1.0, 2.0), values=(0.1, 0.7))],
    ids=["sigmoid", "stairs"],
)
def test_what_is_no_number_stays_none(transform: Transform, margins: list[float]) -> None:
    p = transform(np.array(margins))
    assert p.dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(p), np.isfinite(margins))
    assert ((p[np.isfinite(p)] >= 0) & (p[np.isfinite(p)] <= 1)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"kind": "platt", "slope": -1.0}, id="falling"),
        pytest.param({"kind": "platt", "offset": float("nan")}, id="no number"),
        pytest.param({"kind": "isotonic"}, id="no steps"),
        pytest.param({"kind": "platt", "knots": (0.0,), "values": (0.5,)}, id="steps of a line"),
        pytest.param({"kind": "isotonic", "knots": (0.0, 0.0), "values": (0.1, 0.2)}, id="knots do not rise"),
        pytest.param({"kind": "isotonic", "knots": (0.0, 1.0), "values": (0.3, 0.2)}, id="values fall"),
        pytest.param({"kind": "isotonic", "knots": (0.0, 1.0), "values": (0.3, 1.0)}, id="certainty"),
        pytest.param({"kind": "isotonic", "knots": (0.0, 1.0), "values": (0.3,)}, id="lengths"),
    ],
)
def test_a_transform_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(HeadError):
        Transform(**wrong)  # type: ignore[arg-type]
