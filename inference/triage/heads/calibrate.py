"""A calibration of all findings of a catalogue from the margins of labelled films."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.triage.heads.finding import Films, FindingFit, State, Wishes, count, fit_finding
from inference.triage.heads.measure import Bools, Floats, Ints
from inference.triage.heads.transform import sigmoid


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Labelled films as a model sees them.

    ``keys``: findings in catalogue order. ``truth``: int8 (films, keys), 1 present, 0 absent, -1 unknown. ``margins``:
    float32 (films, keys), logits. ``embeddings``: float32 (films, width). ``patients``: (films,), a number for each patient.
    ``collections``: (films,).
    """

    keys: tuple[str, ...]
    truth: NDArray[np.int8]
    margins: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    patients: Ints
    collections: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.truth)

    def known(self, column: int) -> Bools:
        """The films whose label for one finding is known: bool (films,)."""
        rows: Bools = self.truth[:, column] >= 0
        return rows

    def films(self, column: int, rows: Bools, scores: Floats | None = None) -> Films:
        """The chosen films of one finding; ``scores`` (one for each chosen film) take the place of the model's margins."""
        margins = self.margins[rows, column].astype(np.float64)
        return Films(
            scores=margins if scores is None else scores,
            before=sigmoid(margins),
            labels=self.truth[rows, column] == 1,
            patients=self.patients[rows],
            collections=tuple(np.array(self.collections)[rows].tolist()),
        )


def fit_calibration(labelled: Labelled, judged: Collection[str], wishes: Wishes) -> tuple[FindingFit, ...]:
    """One fit for each finding, in the catalogue's order. ``judged``: keys of the findings that the model judges at all."""
    return tuple(_one(labelled, column, key in judged, wishes) for column, key in enumerate(labelled.keys))


def _one(labelled: Labelled, column: int, judged: bool, wishes: Wishes) -> FindingFit:
    films = labelled.films(column, labelled.known(column))
    if not judged:
        note = "the model was not trained for this finding; a probe (`wetread probe fit`) can teach it"
        return FindingFit(labelled.keys[column], State.UNTRAINED, count(films.labels, films.patients), notes=(note,))
    return fit_finding(labelled.keys[column], films, wishes)


def general_notes(labelled: Labelled, fits: Sequence[FindingFit]) -> tuple[str, ...]:
    """What holds of the whole set of films."""
    notes = []
    named = {name for name in labelled.collections if name}
    if len(named) < 2:
        notes.append(
            "All films come from one collection: nothing shows that the figures hold at another place or on another device."
        )
    if len(np.unique(labelled.patients)) < len(labelled):
        films = len(labelled) / len(np.unique(labelled.patients))
        notes.append(f"{films:.1f} films for each patient: intervals and folds are by patient.")
    if sum(fit.state is not State.FEW for fit in fits) > 1:
        notes.append("Several findings were tried: of twenty intervals that say 95 %, one is expected to miss.")
    return tuple(notes)
