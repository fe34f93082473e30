"""Where to put the threshold for a wished sensitivity or specificity, and the band in which to abstain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

import numpy as np
from scipy.stats import beta

from inference.triage.heads.measure import CONFIDENCE, Bools, Estimate, Floats, Ints, bootstrap, interval, share_estimate


@dataclass(frozen=True, slots=True)
class Wish:
    """What the threshold shall reach: at least ``share`` (0..1) of the films with (without) the finding called so."""

    kind: Literal["sensitivity", "specificity"]
    share: float


@dataclass(frozen=True, slots=True)
class Cut:
    """The probability at or above which a film is called positive, with its interval over resamples of the patients.

    ``wished``: the share that was wished for, as it is to be expected of new films. ``other``: the other one of sensitivity and
    specificity, on the labelled films, which had no part in the choice of the cut.
    ``promised``: whether there were films enough to promise the wish; if not, the cut calls all labelled films right.
    """

    threshold: Estimate
    wished: Estimate
    other: Estimate
    promised: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Probabilities, both ends included, at which neither answer can be ruled out at ``rate``.

    ``share``: of the labelled films that lie there.
    """

    rate: float
    low: float
    high: float
    share: float


def cut_for(p: Floats, labels: Bools, patients: Ints, wish: Wish, seed: int) -> Cut:
    """The cut that a new film passes as wished (the order statistic of conformal prediction: Vovk 2005, 2.2).

    Among n films of the class, that is the floor((1 − share)(n + 1))-th from the worst, so n must be at least
    share / (1 − share). ``p``: probabilities, (films,).
    """
    wanted = labels if wish.kind == "sensitivity" else ~labels
    sign = 1.0 if wish.kind == "sensitivity" else -1.0
    own, rest = sign * p[wanted], sign * p[~wanted]
    place = floor((1 - wish.share) * (len(own) + 1) + 1e-9)
    middle = _towards_worse(np.append(sign * p, min(sign, 0.0)), float(np.sort(own)[max(place, 1) - 1]))
    samples = bootstrap(_anew(own, 1 - wish.share), patients[wanted], seed)
    low, high = sorted(sign * bound for bound in interval(samples))
    cut = sign * middle
    other = share_estimate(rest < middle, patients[~wanted], seed)
    reach = _reach(max(place, 1), len(own), len(np.unique(patients[wanted])))
    return Cut(Estimate(cut, min(low, cut), max(high, cut)), reach, other, promised=place >= 1)


def gap_for(p: Floats, labels: Bools, rate: float) -> Gap | None:
    """Split-conformal prediction with a rate for each class (Vovk 2012, arXiv 1209.2673).

    Below ``low`` lie at most ``rate`` of new films with the finding, above ``high`` at most ``rate`` of those without. None
    where the classes are so far apart that no film needs to be left out. Raises ValueError where a class has too few films,
    fewer than 1 / rate − 1.
    """
    positive, negative = np.sort(p[labels]), np.sort(p[~labels])
    lowest = floor(rate * (len(positive) + 1) + 1e-9)
    highest = ceil((1 - rate) * (len(negative) + 1) - 1e-9)
    if lowest < 1 or highest > len(negative):
        raise ValueError(f"an error rate of {rate:g} needs {ceil(1 / rate - 1 - 1e-9)} films with and without the finding")
    low, high = float(positive[lowest - 1]), float(negative[highest - 1])
    if low > high:
        return None
    return Gap(rate, low, high, float(((p >= low) & (p <= high)).mean()))


def _towards_worse(values: Floats, edge: float) -> float:
    """Half way to the next film, or the end of the scale, beyond the edge, so that rounding turns none round."""
    beyond = values[values < edge]
    return (edge + float(beyond.max())) / 2 if len(beyond) else edge


def _reach(place: int, films: int, patients: int) -> Estimate:
    """The share of new films beyond the ``place``-th of ``films``: Beta(n + 1 − k, k) (Vovk 2012, proposition 2a).

    Films of one patient are worth one: n counts patients, and k shrinks with it.
    """
    worst = place * patients / films
    share = beta(patients + 1 - worst, worst)
    return Estimate(float(share.mean()), *(float(share.ppf(edge)) for edge in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)))


def _anew(own: Floats, share: float) -> Callable[[Floats], Floats]:
    """The cut of each resample: weights (resamples, films) to (resamples,)."""
    order = np.argsort(own)

    def quantile(weights: Floats) -> Floats:
        mass = np.cumsum(weights[:, order], axis=1)
        place = (mass < share * mass[:, -1:]).sum(axis=1)
        cuts: Floats = own[order][np.minimum(place, len(own) - 1)]
        return cuts

    return quantile
