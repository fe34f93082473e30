"""Whole fits on drawn numbers: what is fitted, what is refused, and that a probe beats what it stands in for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from inference.triage.heads.calibrate import fit_calibration, general_notes
from inference.triage.heads.decide import Wish
from inference.triage.heads.finding import FEWEST, FindingFit, State, Wishes, fit_finding
from inference.triage.heads.probe import choose_strength, directions, fit_direction, fit_probe
from tests.inference.triage.heads.drawn import drawn_films, drawn_labelled

ALL = {"first", "second", "third"}


def test_a_finding_is_fitted_with_all_its_figures() -> None:
    found = fit_finding("nodule", drawn_films(800), Wishes(abstain=0.1))
    assert found.state is State.FITTED
    assert found.fit is not None
    assert found.before is not None
    assert found.fit.quality.ece < found.before.ece / 2
    assert found.fit.sensitivity.value == pytest.approx(0.95, abs=0.01)
    called = found.fit.transform(drawn_films(800).scores) >= found.fit.cut.threshold.value
    assert called[drawn_films(800).labels].mean() >= 0.95
    assert found.auc is not None
    assert found.auc.low < found.auc.value < found.auc.high
    gap = found.fit.gaps[0.1]
    assert gap is not None
    assert found.fit.band is not None
    assert found.fit.band[0] == gap.low
    assert found.fit.band[1] == pytest.approx(gap.high, abs=1e-6)
    assert found.fit.band[1] > gap.high
    assert found.fit.gaps.keys() == {0.05, 0.1, 0.2}


def test_without_a_wish_no_band_is_set() -> None:
    found = fit_finding("nodule", drawn_films(300), Wishes())
    assert found.fit is not None
    assert found.fit.band is None


def test_a_threshold_for_specificity() -> None:
    found = fit_finding("nodule", drawn_films(800), Wishes(Wish("specificity", 0.9)))
    assert found.fit is not None
    assert 0.9 <= found.fit.specificity.value < 0.93


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_the_kind_asked_for_is_the_kind_fitted(method: str) -> None:
    found = fit_finding("nodule", drawn_films(300), Wishes(method=method))  # type: ignore[arg-type]
    assert found.fit is not None
    assert found.fit.transform.kind == method


@pytest.mark.parametrize(("slope", "state"), [(0.0, State.CHANCE), (-0.5, State.CHANCE), (0.5, State.FITTED)])
def test_what_is_not_better_than_chance_is_not_fitted(slope: float, state: State) -> None:
    found = fit_finding("nodule", drawn_films(300, slope=slope), Wishes())
    assert found.state is state
    assert (found.fit is None) == (state is State.CHANCE)
    assert any("not better than chance" in note for note in found.notes) == (state is State.CHANCE)


@pytest.mark.parametrize(
    ("positives", "per_patient", "state"),
    [
        pytest.param(FEWEST, 1, State.FITTED, id="just enough"),
        pytest.param(FEWEST - 1, 1, State.FEW, id="one too few"),
        pytest.param(3 * FEWEST, 5, State.FEW, id="films enough, patients not"),
        pytest.param(0, 1, State.FEW, id="none"),
    ],
)
def test_labels_must_be_enough_and_of_patients_enough(positives: int, per_patient: int, state: State) -> None:
    labels = np.arange(150) < positives
    films = replace(drawn_films(150, per_patient=per_patient), labels=labels, scores=labels + np.linspace(0, 0.9, 150))
    found = fit_finding("nodule", films, Wishes())
    assert found.state is state
    if state is State.FEW:
        assert "stays as it was" in found.notes[0]


def test_a_prevalence_in_use_lowers_probabilities_and_keeps_decisions() -> None:
    films = drawn_films(600)
    plain, rare = (fit_finding("n", films, wishes).fit for wishes in (Wishes(), Wishes(prevalence={"n": 0.02})))
    assert plain is not None
    assert rare is not None
    p, q = plain.transform(films.scores), rare.transform(films.scores)
    assert q.mean() < p.mean() / 4
    np.testing.assert_array_equal(p >= plain.cut.threshold.value, q >= rare.cut.threshold.value)


def test_notes_tell_what_the_films_do_not_show() -> None:
    films = drawn_films(120)
    split = replace(films, collections=tuple("sick" if label else "well" for label in films.labels))
    notes = " ".join(fit_finding("n", split, Wishes()).notes)
    for words in ("telling collections apart", "the figures are rough", "--prevalence"):
        assert words in notes
    assert "too few films to promise a sensitivity of 99%" in " ".join(
        fit_finding("n", films, Wishes(Wish("sensitivity", 0.99))).notes
    )


def test_area_within_collections() -> None:
    films = drawn_films(400)
    names = tuple("a" if k % 3 else "b" for k in range(400))
    found = fit_finding("n", replace(films, collections=names), Wishes())
    for name in ("a", "b"):
        rows = np.array(names) == name
        assert found.within[name] == pytest.approx(roc_auc_score(films.labels[rows], films.scores[rows]))


def test_a_calibration_covers_the_catalogue() -> None:
    labelled = drawn_labelled(400)
    fits = fit_calibration(labelled, {"first", "second"}, Wishes())
    assert [one.key for one in fits] == ["first", "second", "third"]
    assert [one.state for one in fits] == [State.FITTED, State.CHANCE, State.UNTRAINED]
    assert "probe" in fits[2].notes[0]
    assert any("one collection" in note for note in general_notes(labelled, fits))


def by_key(fits: tuple[FindingFit, ...]) -> dict[str, FindingFit]:
    return {one.key: one for one in fits}


def test_a_probe_beats_zero_shot_and_says_so() -> None:
    labelled = drawn_labelled(500, per_patient=2)
    done = fit_probe(labelled, {"first", "second"}, Wishes())
    found = by_key(tuple(one.finding for one in done))
    assert {key: one.state for key, one in found.items()} == {
        "first": State.FITTED, "second": State.FITTED, "third": State.FEW,
    }  # fmt: skip
    for key, column in (("first", 0), ("second", 1)):
        one = found[key]
        assert one.auc is not None
        assert one.beside is not None
        assert one.gain is not None
        assert one.gain.low > 0
        assert one.beside.value == pytest.approx(roc_auc_score(labelled.truth[:, column], labelled.margins[:, column]))
        assert one.gain.value == pytest.approx(one.auc.value - one.beside.value)
    assert directions(done).keys() == {"first", "second"}


def test_a_probe_on_new_films_does_as_it_said() -> None:
    done = fit_probe(drawn_labelled(500), ALL, Wishes())
    new = drawn_labelled(3000, seed=9)
    one = done[0].finding
    assert one.auc is not None
    assert one.fit is not None
    margins = directions(done)["first"](new.embeddings)
    assert one.auc.low - 0.01 < roc_auc_score(new.truth[:, 0], margins) < one.auc.high + 0.01
    called = one.fit.transform(margins) >= one.fit.cut.threshold.value
    assert one.fit.sensitivity.low - 0.02 < called[new.truth[:, 0] == 1].mean()


def test_a_direction_is_scikit_learns_on_standardised_embeddings() -> None:
    labelled = drawn_labelled(300)
    x, labels = labelled.embeddings.astype(float), labelled.truth[:, 0] == 1
    unit = (x - x.mean(axis=0)) / x.std(axis=0)
    oracle = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000, tol=1e-8).fit(unit, labels)
    np.testing.assert_allclose(
        fit_direction(labelled.embeddings, labels, 0.1)(labelled.embeddings), oracle.decision_function(unit), atol=2e-2
    )


def test_pure_noise_gives_no_probe() -> None:
    labelled = drawn_labelled(200)
    noise = replace(labelled, truth=np.random.default_rng(0).integers(0, 2, labelled.truth.shape).astype(np.int8))
    done = fit_probe(noise, ALL, Wishes())
    assert sum(one.direction is not None for one in done) <= 1  # one of twenty intervals misses
    assert all(one.finding.state is State.CHANCE for one in done if one.direction is None)


def test_a_probe_worse_than_zero_shot_is_left_out() -> None:
    labelled = drawn_labelled(300)
    margins = labelled.margins.copy()
    margins[:, 0] = labelled.truth[:, 0] * 8 - 4 + np.random.default_rng(0).normal(0, 0.1, 300)
    done = fit_probe(replace(labelled, margins=margins), ALL, Wishes())[0]
    assert done.finding.state is State.WORSE
    assert done.direction is None
    assert done.finding.fit is None


@pytest.mark.parametrize("shots", [2, 8, 40])
def test_few_shots_learn_from_so_many_and_measure_on_other_patients(shots: int) -> None:
    labelled = drawn_labelled(600, per_patient=3)
    one = fit_probe(labelled, ALL, Wishes(), few_shot=shots)[0].finding
    assert 600 - 3 * 2 * shots <= one.counts.films <= 600 - 2 * shots
    assert one.auc is not None
    if shots == 40:
        assert one.state is State.FITTED


def test_shots_that_leave_nothing_to_measure_are_told() -> None:
    one = fit_probe(drawn_labelled(60), ALL, Wishes(), few_shot=28)[0].finding
    assert one.state is State.FEW
    assert "set aside to learn from" in one.notes[0]


def test_the_same_seed_fits_the_same() -> None:
    labelled = drawn_labelled(200)
    first, second = (fit_probe(labelled, ALL, Wishes(seed=3))[0] for _ in range(2))
    assert first.finding.auc == second.finding.auc
    assert first.direction is not None
    assert second.direction is not None
    np.testing.assert_array_equal(first.direction.weights, second.direction.weights)


def test_one_patient_only_still_answers() -> None:
    labelled = drawn_labelled(60, per_patient=60)
    assert fit_probe(labelled, ALL, Wishes())[0].finding.state is State.FEW
    x, labels = labelled.embeddings, labelled.truth[:, 0] == 1
    assert choose_strength(x, labels, labelled.patients, 0) > 0
