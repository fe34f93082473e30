"""Is the window drawn from what the baseline was drawn from? One verdict for each signal.

Scores, draft lengths and shares are compared by the two-sample Kolmogorov-Smirnov test, rates by Fisher's exact test, the
mean of the sketches by Hotelling's T², their spread by Kolmogorov-Smirnov over Mahalanobis distances. A small p-value alone
is no alarm: with enough studies every difference has one. The effect says how large it is: the population stability index
of ten bins that the baseline fills alike, a difference of rates, or a distance in standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_BINS: Final = 10
_RIDGE: Final = 1e-6  # of the mean variance: a sketch may have directions in which nothing ever moves
Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``effect`` in the signal's own measure (0: no difference), ``p_value`` of the hypothesis that nothing changed."""

    effect: float
    p_value: float


def distribution(baseline: Rows, window: Rows) -> Verdict:
    """Of one number for each study, float64 (studies,) without NaN."""
    p_value = float(stats.ks_2samp(baseline, window, method="asymp").pvalue)
    return Verdict(stability_index(baseline, window), p_value)


def stability_index(baseline: Rows, window: Rows) -> float:
    """Population stability index over the baseline's deciles: 0 the same, above 0.2 by custom a shift that matters.

    Half a study is added to each bin, so that an empty one costs no infinity.
    """
    edges = np.unique(np.quantile(baseline, np.linspace(0, 1, _BINS + 1)[1:-1]))
    shares = [
        (np.bincount(np.searchsorted(edges, rows, side="right"), minlength=len(edges) + 1) + 0.5)
        / (len(rows) + 0.5 * (len(edges) + 1))
        for rows in (baseline, window)
    ]
    return float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))


def rate(baseline: Rows, window: Rows) -> Verdict:
    """Of a yes (1) or no (0) for each study: Fisher's exact test; the effect is the difference of the rates, 0..1."""
    table = [[float(rows.sum()), float(len(rows) - rows.sum())] for rows in (baseline, window)]
    return Verdict(abs(float(window.mean() - baseline.mean())), float(stats.fisher_exact(table).pvalue))


def mean_shift(baseline: Rows, window: Rows) -> Verdict:
    """Hotelling's two-sample T² of float64 (studies, width); the effect is the Mahalanobis distance of the means.

    The covariance is the baseline's own, of ``n`` studies: T²·(n-width)/(width·(n-1)) has an F distribution with width and
    n-width degrees of freedom (Hotelling 1931).
    """
    n, m, width = len(baseline), len(window), baseline.shape[1]
    if n <= width + 1:
        return Verdict(0.0, 1.0)
    difference = window.mean(axis=0) - baseline.mean(axis=0)
    squared = float(difference @ np.linalg.solve(_covariance(baseline), difference))
    statistic = squared * n * m / (n + m) * (n - width) / (width * (n - 1))
    return Verdict(float(np.sqrt(squared)), float(stats.f.sf(statistic, width, n - width)))


def spread(baseline: Rows, window: Rows) -> Verdict:
    """Do single studies lie farther out, though the mean may stay? The first half of the baseline gives the yardstick."""
    half = len(baseline) // 2
    if half <= baseline.shape[1] + 1:
        return Verdict(0.0, 1.0)
    centre, covariance = baseline[:half].mean(axis=0), _covariance(baseline[:half])
    distances = [_distances(rows - centre, covariance) for rows in (baseline[half:], window)]
    return distribution(*distances)


def _distances(centred: Rows, covariance: Rows) -> Rows:
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), centred.T)
    return np.asarray(np.sqrt(np.sum(whitened**2, axis=0)))


def _covariance(rows: Rows) -> Rows:
    covariance = np.cov(rows, rowvar=False)
    return np.asarray(covariance + np.eye(len(covariance)) * (_RIDGE * float(np.trace(covariance)) / len(covariance) + 1e-12))
