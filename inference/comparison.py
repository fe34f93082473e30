"""Two models over the same studies, finding by finding: where they agree, how they differ, which is right where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.reading import Decision, Finding
from inference.triage.heads.measure import auc

UNKNOWN: Final = -1  # in a table of truth, beside 0 absent and 1 present


@dataclass(frozen=True, slots=True)
class Judged:
    """What one model said of one finding in one study. ``probability`` is None where it was not assessable."""

    decision: Decision
    probability: float | None


@dataclass(frozen=True, slots=True)
class Flip:
    """A study on which the two decide differently, one of them perhaps not at all."""

    study: str
    a: Judged
    b: Judged


@dataclass(frozen=True, slots=True)
class Compared:
    """One finding over the studies that both models assessed (``both``), of ``studies``.

    ``agreement``: share of equal decisions; ``kappa``: the same beyond chance (Cohen 1960); ``correlation``: of Spearman, of
    the probabilities; ``mean_shift``: of b's probability from a's. ``auc_a``, ``auc_b``: areas under the ROC curve over the
    ``labelled`` studies that both assessed and whose truth is known. Each is None where it has no value: too few studies, one
    class only, no spread.
    """

    key: str
    studies: int
    both: int
    positive_a: int
    positive_b: int
    agreement: float | None
    kappa: float | None
    correlation: float | None
    mean_shift: float | None
    labelled: int
    auc_a: float | None
    auc_b: float | None
    flips: tuple[Flip, ...]


Findings = Sequence[Finding]


def compare(
    studies: Sequence[str], a: Sequence[Findings], b: Sequence[Findings], truth: Mapping[str, NDArray[np.int8]] | None = None
) -> tuple[Compared, ...]:
    """Compare the findings of two models, study by study in the same order, catalogue of ``a``'s first study.

    ``truth``: for each key 1, 0 or UNKNOWN of every study. Raises ValueError where the lengths or the keys disagree.
    """
    if not len(studies) == len(a) == len(b):
        raise ValueError(f"{len(studies)} studies, but findings of {len(a)} and {len(b)}")
    keys = [finding.key for finding in a[0]] if a else []
    if any([finding.key for finding in findings] != keys for findings in (*a, *b)):
        raise ValueError("the two models were asked for different findings")
    said = truth or {}
    nothing = np.full(len(studies), UNKNOWN, np.int8)
    return tuple(
        _compare_one(key, studies, [_judged(f[i]) for f in a], [_judged(f[i]) for f in b], said.get(key, nothing))
        for i, key in enumerate(keys)
    )


def _compare_one(
    key: str, studies: Sequence[str], a: Sequence[Judged], b: Sequence[Judged], truth: NDArray[np.int8]
) -> Compared:
    both = [i for i in range(len(studies)) if a[i].probability is not None and b[i].probability is not None]
    p, q = (np.array([one[i].probability for i in both], np.float64) for one in (a, b))
    yes, oui = (np.array([one[i].decision is Decision.POSITIVE for i in both], np.bool_) for one in (a, b))
    known = truth[both] != UNKNOWN
    present = truth[both][known] == 1
    return Compared(
        key=key,
        studies=len(studies),
        both=len(both),
        positive_a=int(yes.sum()),
        positive_b=int(oui.sum()),
        agreement=float((yes == oui).mean()) if both else None,
        kappa=_kappa(yes, oui),
        correlation=_spearman(p, q),
        mean_shift=float((q - p).mean()) if both else None,
        labelled=int(known.sum()),
        auc_a=_number(float(auc(p[known], present))) if known.any() else None,
        auc_b=_number(float(auc(q[known], present))) if known.any() else None,
        flips=tuple(Flip(studies[i], a[i], b[i]) for i in range(len(studies)) if a[i].decision is not b[i].decision),
    )


def _judged(finding: Finding) -> Judged:
    assessed = finding.decision is not Decision.NOT_ASSESSABLE
    return Judged(finding.decision, finding.probability if assessed else None)


def _kappa(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    if not len(a):
        return None
    by_chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return None if by_chance == 1 else float(((a == b).mean() - by_chance) / (1 - by_chance))


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Pearson's correlation of the ranks, equal values sharing their mean rank."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return _number(float(np.corrcoef(_ranks(a), _ranks(b))[0, 1]))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[where]
    return ranks


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
