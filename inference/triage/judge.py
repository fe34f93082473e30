"""From probabilities of images to findings of a study."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.reading import Decision, Finding, Frame, Method
from inference.triage.aggregation import Aggregated, aggregate
from inference.triage.catalogue import Band, CatalogueEntry, FindingsCatalogue

NOT_TRAINED = "the triage model was not trained for this finding"


@dataclass(frozen=True, slots=True)
class Ruling:
    """How one finding's probability is decided upon, where a calibration or probe says otherwise than the catalogue.

    ``refusal``: where not empty, the finding is NOT_ASSESSABLE for that reason.
    """

    threshold: float
    band: Band | None = None
    method: Method = Method.ZERO_SHOT
    refusal: str = ""


_NO_RULINGS: Final[Mapping[str, Ruling]] = MappingProxyType({})


def judge(
    catalogue: FindingsCatalogue,
    frames: Sequence[Frame],
    probabilities: NDArray[np.float32],
    judged: Collection[str],
    rulings: Mapping[str, Ruling] = _NO_RULINGS,
) -> tuple[Finding, ...]:
    """One finding for each catalogue entry, over the images of which it is asked, by its aggregation.

    ``probabilities``: float32 (frames, entries), 0..1. ``rulings``, by finding key, replace the catalogue's threshold and band.
    NOT_ASSESSABLE are entries whose key is not in ``judged``, those asked of none of the frames, those whose probability is no
    number on any frame (half precision overflowed, weights damaged), and those whose probability lies in the band: never a
    silent negative. Raises ValueError where the shapes disagree or there is no frame.
    """
    if probabilities.shape != (len(frames), len(catalogue.findings)) or not frames:
        raise ValueError(f"probabilities {probabilities.shape} for {len(frames)} frames, {len(catalogue.findings)} entries")
    return tuple(
        _judge_one(entry, frames, probabilities[:, column], _ruling(entry, rulings))
        if entry.key in judged
        else _unassessed(entry, NOT_TRAINED)
        for column, entry in enumerate(catalogue.findings)
    )


def not_assessable(catalogue: FindingsCatalogue, reason: str) -> tuple[Finding, ...]:
    """Every entry of the catalogue as NOT_ASSESSABLE for ``reason``."""
    return tuple(_unassessed(entry, reason) for entry in catalogue.findings)


def _ruling(entry: CatalogueEntry, rulings: Mapping[str, Ruling]) -> Ruling:
    return rulings.get(entry.key) or Ruling(entry.threshold, entry.band)


def _judge_one(entry: CatalogueEntry, frames: Sequence[Frame], column: NDArray[np.float32], ruling: Ruling) -> Finding:
    if ruling.refusal:
        return _unassessed(entry, ruling.refusal)
    refusals = [entry.scope.refuse(frame) for frame in frames]
    asked = [index for index, refusal in enumerate(refusals) if not refusal]
    if not asked:
        return _unassessed(entry, refusals[0])
    if not np.isfinite(column[asked]).all():
        return _unassessed(entry, "the triage model gave no number for this finding")
    chosen = [frames[index] for index in asked]
    found = aggregate(column[asked], [frame.source.series_instance_uid for frame in chosen], entry.aggregation)
    return _decide(entry, ruling, found, chosen[found.best])


def _decide(entry: CatalogueEntry, ruling: Ruling, found: Aggregated, deciding: Frame) -> Finding:
    known = _known(entry) | {
        "threshold": ruling.threshold,
        "method": ruling.method,
        "source": deciding.source,
        "aggregation": found.words,
    }
    probability = found.probability
    if ruling.band and ruling.band.holds(probability):
        return Finding(decision=Decision.NOT_ASSESSABLE, reason=_too_near(probability, ruling.band), **known)
    decision = Decision.POSITIVE if probability >= ruling.threshold else Decision.NEGATIVE
    return Finding(decision=decision, probability=probability, **known)


def _too_near(probability: float, band: Band) -> str:
    between = f"between {band.low:.3f} and {band.high:.3f}"
    return f"the probability {probability:.3f} lies {between}, too near the threshold to say either"


def _unassessed(entry: CatalogueEntry, reason: str) -> Finding:
    return Finding(decision=Decision.NOT_ASSESSABLE, reason=reason, **_known(entry))


def _known(entry: CatalogueEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("key", "code", "site", "urgency", "threshold")}
