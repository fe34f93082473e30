"""How good probabilities are, with intervals by resampling patients: area under the ROC curve, Brier score, calibration error.

Labels are bool, scores any real number that rises with the finding, weights how often a film counts (a bootstrap resample).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

RESAMPLES: Final = 1000
_AT_ONCE: Final = 100  # resamples held in memory together
BINS: Final = 10
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Quality:
    """How far probabilities are from the truth: 0 is best. ``ece``: expected calibration error over ten equal bins."""

    ece: float
    brier: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Films whose probabilities lie together: their mean probability, the share that has the finding, how many they are."""

    mean: float
    share: float
    count: int
    low: float  # of the share's 95 % interval (Wilson 1927)
    high: float


def auc(scores: Floats, labels: Bools, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve, ties counted half; NaN where a class is missing.

    ``scores``, ``labels``: (films,). ``weights``: (resamples, films) or None for one of each. Returns (resamples,) or ().
    """
    given = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])  # one group for each distinct score
    sorted_weights, sorted_labels = given[:, order], labels[order]
    positive = np.add.reduceat(sorted_weights * sorted_labels, starts, axis=1)  # (resamples, groups)
    negative = np.add.reduceat(sorted_weights * ~sorted_labels, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    area = np.divide((positive * below).sum(axis=1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    result: Floats = area[0] if weights is None else area
    return result


def quality(probabilities: Floats, labels: Bools) -> Quality:
    """The three figures of calibration. ``probabilities``: (films,), 0..1."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    loss = -np.where(labels, np.log(p), np.log1p(-p)).mean()
    return Quality(calibration_error(probabilities, labels), float(((probabilities - labels) ** 2).mean()), float(loss))


def calibration_error(probabilities: Floats, labels: Bools) -> float:
    """Expected calibration error (Naeini 2015): mean over films of |mean probability − share with the finding| of their bin."""
    gaps = [abs(one.mean - one.share) * one.count for one in reliability(probabilities, labels)]
    return float(sum(gaps) / len(labels))


def reliability(probabilities: Floats, labels: Bools) -> tuple[Bin, ...]:
    """The bins of a reliability diagram that hold a film: ten of equal width, the last closed at 1."""
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return tuple(_bin(probabilities[place == k], labels[place == k]) for k in range(BINS) if (place == k).any())


def _bin(probabilities: Floats, labels: Bools) -> Bin:
    low, high = wilson(int(labels.sum()), len(labels))
    return Bin(float(probabilities.mean()), float(labels.mean()), len(labels), low, high)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927): never a point, not even at 0 or 1."""
    z = 1.959963984540054  # 97.5 % point of the normal distribution
    share = hits / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return 0.0 if hits == 0 else float(middle - half), 1.0 if hits == trials else float(middle + half)


def resample(patients: Ints, seed: int, count: int = RESAMPLES) -> Floats:
    """Weights of bootstrap resamples that draw patients, not films: (count, films). ``patients``: (films,), any numbers."""
    names, place = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    weights: Floats = drawn[:, place].astype(np.float64)
    return weights


def bootstrap(statistic: Callable[[Floats], Floats], patients: Ints, seed: int, count: int = RESAMPLES) -> Floats:
    """The statistic of each resample; ``statistic`` takes weights (resamples, films) and gives (resamples,)."""
    weights = resample(patients, seed, count)
    return np.concatenate([statistic(weights[at : at + _AT_ONCE]) for at in range(0, count, _AT_ONCE)])


def interval(samples: Floats) -> tuple[float, float]:
    """The percentile interval of resampled figures, leaving out those that could not be formed."""
    known = samples[np.isfinite(samples)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def auc_estimate(scores: Floats, labels: Bools, patients: Ints, seed: int) -> Estimate:
    """Area under the ROC curve with its interval.

    Where the classes do not overlap at all, resampling would claim certainty: the lower end is then Wilson's for the patients
    of the smaller class.
    """
    area = float(auc(scores, labels))
    if area == 1.0:
        fewest = min(len(np.unique(patients[side])) for side in (labels, ~labels))
        return Estimate(area, *wilson(fewest, fewest))
    samples = bootstrap(lambda weights: auc(scores, labels, weights), patients, seed)
    return Estimate(area, *interval(samples))


def share_estimate(hits: Bools, patients: Ints, seed: int) -> Estimate:
    """A share of films, such as specificity among those without the finding.

    The interval is by patients; where all films or none are hit, resampling would claim certainty, and Wilson's interval
    over the patients is given.
    """
    if hits.all() or not hits.any():
        count = len(np.unique(patients))
        return Estimate(float(hits.mean()), *wilson(count if hits.all() else 0, count))
    samples = bootstrap(lambda weights: (weights @ hits) / weights.sum(axis=1), patients, seed)
    return Estimate(float(hits.mean()), *interval(samples))
