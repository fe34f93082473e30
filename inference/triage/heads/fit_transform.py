"""Fitting one transform on labelled margins, and choosing among the three by cross-validated log loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from inference.errors import HeadError
from inference.triage.heads.folds import patient_folds, splits
from inference.triage.heads.measure import Bools, Floats, Ints, quality
from inference.triage.heads.transform import Kind, Transform, sigmoid

Method = Literal["temperature", "platt", "isotonic", "auto"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
AS_IT_IS: Final = "as it is"  # no transform: the model's own probabilities, where no fit does better
FEWEST_FOR_STAIRS: Final = 200  # films with, and films without the finding
_SLOPES: Final = (1e-4, 1e4)


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """``out_of_fold``: the probability of each film by a transform that was fitted without its patient, (films,).

    ``losses``: the out-of-fold log loss of each kind that was tried.
    """

    transform: Transform
    out_of_fold: Floats
    losses: Mapping[str, float]


def fit_temperature(margins: Floats, labels: Bools) -> Transform:
    """The temperature of least log loss, against Platt's targets; the zero of the margins stays at 0.5."""
    targets = _targets(labels)

    def loss(logarithm: Floats) -> float:
        odds = np.exp(logarithm[0]) * margins
        return float((np.logaddexp(0, odds) - targets * odds).mean())

    bounds = [tuple(np.log(_SLOPES))]
    found = minimize(loss, np.log([1.0 / max(float(margins.std()), 1e-6)]), method="L-BFGS-B", bounds=bounds)
    return Transform("temperature", slope=float(np.exp(found.x[0])))


def fit_platt(margins: Floats, labels: Bools) -> Transform:
    """Slope and offset of least log loss, against Platt's targets.

    Raises HeadError where the finding becomes less likely as the margin rises.
    """
    targets = _targets(labels)
    middle, width = float(margins.mean()), max(float(margins.std()), 1e-6)
    unit = (margins - middle) / width

    def loss(x: Floats) -> tuple[float, Floats]:
        odds = x[0] * unit + x[1]
        rest = sigmoid(odds) - targets
        return float((np.logaddexp(0, odds) - targets * odds).mean()), np.array([(rest * unit).mean(), rest.mean()])

    slope, offset = minimize(loss, [1.0, 0.0], jac=True, method="BFGS").x
    if slope <= 0:
        raise HeadError("the model's score falls where the finding is present")
    return Transform("platt", slope=float(slope / width), offset=float(offset - slope * middle / width))


def _targets(labels: Bools) -> Floats:
    """What a label counts for: as sure as so many films can make one, which keeps few of them from promising certainty."""
    positives, negatives = int(labels.sum()), int((~labels).sum())
    return np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def fit_isotonic(margins: Floats, labels: Bools) -> Transform:
    """The rising steps nearest to the labels, kept from 0 and 1 by as much as the number of films can tell."""
    edge = 1 / (len(labels) + 2)
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(margins, labels.astype(np.float64))
    knots, first = np.unique(np.asarray(model.X_thresholds_, dtype=np.float64), return_index=True)
    values = np.clip(np.asarray(model.y_thresholds_, dtype=np.float64)[first], edge, 1 - edge)
    return Transform("isotonic", knots=tuple(knots.tolist()), values=tuple(np.maximum.accumulate(values).tolist()))


_FITS: Final[Mapping[str, Callable[[Floats, Bools], Transform]]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}


def fit_transform(margins: Floats, labels: Bools, patients: Ints, method: Method, seed: int) -> Calibrated:
    """Fit one kind, or for ``auto`` the one of least out-of-fold log loss, which may be none at all; of equals the simpler.

    ``auto`` takes isotonic only where films are many: on few, its steps tie films that the model tells apart.
    Raises HeadError where none can be fitted.
    """
    fold = patient_folds(labels, patients, seed)
    stairs = min(labels.sum(), (~labels).sum()) >= FEWEST_FOR_STAIRS
    kinds = tuple(kind for kind in KINDS if stairs or kind != "isotonic") if method == "auto" else (method,)
    tried = {kind: _out_of_fold(kind, margins, labels, fold) for kind in kinds}
    found: dict[str, Floats] = {AS_IT_IS: sigmoid(margins)} if method == "auto" else {}
    found |= {kind: p for kind, p in tried.items() if p is not None}
    if not found:
        raise HeadError("the model's score does not rise with the finding")
    losses = {kind: quality(p, labels).log_loss for kind, p in found.items()}
    best = min(found, key=lambda kind: losses[kind])
    transform = Transform("temperature") if best == AS_IT_IS else _FITS[best](margins, labels)
    return Calibrated(transform, found[best], losses)


def shift_prior(transform: Transform, labelled: float, in_use: float) -> Transform:
    """The transform for films of which ``in_use`` (0..1) have the finding instead of ``labelled``."""
    odds = [share / (1 - share) for share in (labelled, in_use)]
    return replace(transform, prior=float(np.log(odds[1] / odds[0])))


def _out_of_fold(kind: str, margins: Floats, labels: Bools, fold: Ints) -> Floats | None:
    result = np.empty(len(labels))
    for learn, test in splits(fold):
        try:
            result[test] = _FITS[kind](margins[learn], labels[learn])(margins[test])
        except HeadError:
            return None
    return result
