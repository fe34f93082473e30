"""Linear probes: a logistic regression on the model's embeddings for each finding, judged on patients it was not fitted on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from inference.triage.heads.calibrate import Labelled
from inference.triage.heads.finding import FindingFit, State, Wishes, count, fit_finding, too_few
from inference.triage.heads.folds import patient_folds, splits
from inference.triage.heads.measure import Bools, Estimate, Floats, Ints, auc, auc_estimate, bootstrap, interval

STRENGTHS: Final = (0.001, 0.01, 0.1, 1.0, 10.0)  # of C, the inverse weight of the L2 penalty, on standardised embeddings
_INNER_FOLDS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """A linear head: margin = embedding · weights + bias. ``weights``: float64 (width,)."""

    weights: Floats
    bias: float

    def __call__(self, embeddings: NDArray[np.float32]) -> Floats:
        """(films, width) to (films,)."""
        margins: Floats = embeddings.astype(np.float64) @ self.weights + self.bias
        return margins


@dataclass(frozen=True, slots=True, eq=False)
class ProbeFit:
    """A finding's fit, and its direction where one could be learned."""

    finding: FindingFit
    direction: Direction | None = None


def fit_probe(labelled: Labelled, judged: Collection[str], wishes: Wishes, few_shot: int | None = None) -> tuple[ProbeFit, ...]:
    """One probe for each finding, in the catalogue's order.

    Without ``few_shot`` the figures are of five folds of patients, each scored by a probe that was fitted without it, and the
    probe kept is fitted on all films. With it, the probe is fitted on that many films with and without the finding, one of
    a patient, and measured on the other patients' films.
    """
    return tuple(_one(labelled, column, key in judged, wishes, few_shot) for column, key in enumerate(labelled.keys))


def fit_direction(embeddings: NDArray[np.float32], labels: Bools, strength: float) -> Direction:
    """Class-balanced logistic regression with an L2 penalty on standardised embeddings, folded back to plain ones."""
    x = embeddings.astype(np.float64)
    middle, width = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000, tol=1e-4).fit((x - middle) / width, labels)
    weights: Floats = np.asarray(model.coef_[0], dtype=np.float64) / width
    return Direction(weights, float(model.intercept_[0] - middle @ weights))


def choose_strength(embeddings: NDArray[np.float32], labels: Bools, patients: Ints, seed: int) -> float:
    """The strength of largest out-of-fold area under the ROC curve, the more cautious of equals; folds by patient."""
    fold = patient_folds(labels, patients, seed, _INNER_FOLDS)
    pairs = [(learn, test) for learn, test in splits(fold) if 0 < labels[learn].sum() < learn.sum()]
    areas = []
    for strength in STRENGTHS:
        within = [float(auc(fit_direction(embeddings[a], labels[a], strength)(embeddings[b]), labels[b])) for a, b in pairs]
        areas.append(round(float(np.nanmean(within)), 3) if np.isfinite(within).any() else 0.0)
    return STRENGTHS[int(np.argmax(areas))]


def _one(labelled: Labelled, column: int, judged: bool, wishes: Wishes, few_shot: int | None) -> ProbeFit:
    known = labelled.known(column)
    films = labelled.films(column, known)
    counts = count(films.labels, films.patients)
    if not counts.enough:
        return ProbeFit(FindingFit(labelled.keys[column], State.FEW, counts, notes=(too_few(counts),)))
    if few_shot is None:
        return _whole(labelled, column, known, judged, wishes)
    return _few(labelled, column, known, judged, wishes, few_shot)


def _whole(labelled: Labelled, column: int, known: Bools, judged: bool, wishes: Wishes) -> ProbeFit:
    """One strength for all folds, chosen on other folds than those that measure: unlike strengths give unlike scales."""
    x, labels, patients = labelled.embeddings[known], labelled.truth[known, column] == 1, labelled.patients[known]
    strength = choose_strength(x, labels, patients, wishes.seed + 1)
    scores = np.empty(len(labels))
    for learn, test in splits(patient_folds(labels, patients, wishes.seed)):
        scores[test] = fit_direction(x[learn], labels[learn], strength)(x[test])
    return _judge(labelled, column, known, scores, fit_direction(x, labels, strength), strength, judged, wishes)


def _few(labelled: Labelled, column: int, known: Bools, judged: bool, wishes: Wishes, shots: int) -> ProbeFit:
    labels, rows = labelled.truth[:, column] == 1, np.flatnonzero(known)
    learn = np.concatenate([_draw(rows[labels[rows] == side], labelled.patients, shots, wishes.seed) for side in (True, False)])
    rest = known & ~np.isin(labelled.patients, labelled.patients[learn])
    counts = count(labels[rest], labelled.patients[rest])
    if not counts.enough:
        note = f"after {shots} films with and without it are set aside to learn from, {too_few(counts)}"
        return ProbeFit(FindingFit(labelled.keys[column], State.FEW, counts, notes=(note,)))
    strength = choose_strength(labelled.embeddings[learn], labels[learn], labelled.patients[learn], wishes.seed)
    direction = fit_direction(labelled.embeddings[learn], labels[learn], strength)
    return _judge(labelled, column, rest, direction(labelled.embeddings[rest]), direction, strength, judged, wishes)


def _draw(rows: Ints, patients: Ints, shots: int, seed: int) -> Ints:
    """The first film of each of ``shots`` patients drawn by lot."""
    shuffled = np.random.default_rng(seed).permutation(rows)
    _, first = np.unique(patients[shuffled], return_index=True)
    return shuffled[np.sort(first)[:shots]]


def _judge(
    labelled: Labelled, column: int, rows: Bools, scores: Floats, direction: Direction, strength: float, judged: bool,
    wishes: Wishes,
) -> ProbeFit:  # fmt: skip
    films = labelled.films(column, rows, scores)
    found = replace(fit_finding(labelled.keys[column], films, wishes), strength=strength)
    if judged:
        own = labelled.margins[rows, column].astype(np.float64)
        beside = auc_estimate(own, films.labels, films.patients, wishes.seed)
        gain = _gain(scores, own, films.labels, films.patients, wishes.seed)
        found = _against_zero_shot(replace(found, beside=beside, gain=gain), gain)
    return ProbeFit(found, direction if found.state is State.FITTED else None)


def _gain(scores: Floats, own: Floats, labels: Bools, patients: Ints, seed: int) -> Estimate:
    """The difference of two areas on the same films, with the interval of paired resamples."""
    samples = bootstrap(lambda weights: auc(scores, labels, weights) - auc(own, labels, weights), patients, seed)
    return Estimate(float(auc(scores, labels) - auc(own, labels)), *interval(samples))


def _against_zero_shot(found: FindingFit, gain: Estimate) -> FindingFit:
    if gain.low > 0:
        return found
    if gain.high < 0:
        note = f"the probe is worse than the model without it on the same films (gain {gain}); it is left out"
        return replace(found, state=State.WORSE, fit=None, notes=(note, *found.notes))
    return replace(found, notes=("the probe is not shown to be better than the model without it on these films", *found.notes))


def directions(fits: Sequence[ProbeFit]) -> dict[str, Direction]:
    """By finding key, those that were learned and are better than chance."""
    return {one.finding.key: one.direction for one in fits if one.direction is not None}
