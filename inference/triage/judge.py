"""From probabilities of frames to findings of a study."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.reading import Decision, Finding, Frame
from inference.triage.catalogue import CatalogueEntry, FindingsCatalogue

NOT_TRAINED = "the triage model was not trained for this finding"


def judge(
    catalogue: FindingsCatalogue, frames: Sequence[Frame], probabilities: NDArray[np.float32], judged: Collection[str]
) -> tuple[Finding, ...]:
    """One finding for each catalogue entry: the highest probability over the frames, and the frame that gave it.

    ``probabilities``: float32 (frames, entries), 0..1. Entries whose key is not in ``judged`` are NOT_ASSESSABLE, and so is
    one whose probability is no number on any frame (half precision overflowed, weights damaged): never a silent negative.
    Raises ValueError where the shapes disagree or there is no frame.
    """
    if probabilities.shape != (len(frames), len(catalogue.findings)) or not frames:
        raise ValueError(f"probabilities {probabilities.shape} for {len(frames)} frames, {len(catalogue.findings)} entries")
    return tuple(
        _judge_one(entry, frames, probabilities[:, column]) if entry.key in judged else _unassessed(entry, NOT_TRAINED)
        for column, entry in enumerate(catalogue.findings)
    )


def not_assessable(catalogue: FindingsCatalogue, reason: str) -> tuple[Finding, ...]:
    """Every entry of the catalogue as NOT_ASSESSABLE for ``reason``."""
    return tuple(_unassessed(entry, reason) for entry in catalogue.findings)


def _judge_one(entry: CatalogueEntry, frames: Sequence[Frame], column: NDArray[np.float32]) -> Finding:
    if not np.isfinite(column).all():
        return _unassessed(entry, "the triage model gave no number for this finding")
    best = int(column.argmax())
    probability = float(column[best])
    decision = Decision.POSITIVE if probability >= entry.threshold else Decision.NEGATIVE
    return Finding(decision=decision, probability=probability, source=frames[best].source, **_known(entry))


def _unassessed(entry: CatalogueEntry, reason: str) -> Finding:
    return Finding(decision=Decision.NOT_ASSESSABLE, reason=reason, **_known(entry))


def _known(entry: CatalogueEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("key", "code", "site", "urgency", "threshold")}
