"""One stream: the baseline, and a window of the newest studies, as one small array file."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.drift.observation import SKETCH_WIDTH, Observation
from dicom_node.drift.statistics import Rows, Verdict, distribution, mean_shift, rate, spread

_OWN: Final = ("draft length", "not assessable", "draft omissions", "unread")
_EXTRA: Final = len(_OWN)
_KINDS: Final[dict[str, Callable[[Rows, Rows], Verdict]]] = {
    "draft length": distribution,
    "not assessable": distribution,
    "draft omissions": rate,
    "unread": rate,
}


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """``keys``: the findings. ``baseline`` and ``window``: float32 (studies, findings + 4 + sketch width), NaN: not said.

    The baseline is complete when ``complete``; until then studies go there, afterwards through the window. ``fresh``: studies
    folded since the signals were last judged.
    """

    keys: tuple[str, ...]
    baseline: NDArray[np.float32]
    window: NDArray[np.float32]
    complete: bool
    fresh: int

    @classmethod
    def new(cls) -> Stream:
        nothing = np.empty((0, 0), np.float32)
        return cls((), nothing, nothing, False, 0)

    @classmethod
    def unpacked(cls, content: bytes) -> Stream:
        if not content:
            return cls.new()
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            keys = tuple(str(key) for key in held["keys"])
            return cls(keys, held["baseline"], held["window"], bool(held["complete"]), int(held["fresh"]))

    def packed(self) -> bytes:
        out = io.BytesIO()
        arrays = {"baseline": self.baseline, "window": self.window, "complete": self.complete, "fresh": self.fresh}
        np.savez_compressed(out, keys=np.array(self.keys, dtype=np.str_), **arrays)  # type: ignore[arg-type]
        return out.getvalue()

    def folded(self, observations: Sequence[Observation], baseline_studies: int, window: int) -> Stream:
        """With more studies: the baseline is filled first, then the window moves on."""
        if not observations:
            return self
        keys = self.keys or tuple(observations[0].scores)
        held = self if self.keys else Stream(keys, *(np.empty((0, 0), np.float32),) * 2, False, 0)
        rows = np.array([_row(one, keys) for one in observations], np.float32)
        room = 0 if self.complete else max(baseline_studies - len(held.baseline), 0)
        baseline = held.baseline if self.complete else _stacked(held.baseline, rows[:room])
        complete = self.complete or len(baseline) >= baseline_studies
        moved = _stacked(held.window, rows[room:])[-window:]
        return Stream(keys, baseline, moved, complete, self.fresh + len(rows))

    def judged(self) -> Stream:
        return Stream(self.keys, self.baseline, self.window, self.complete, 0)

    def as_baseline(self, studies: int) -> Stream:
        """The newest studies, of window and baseline together, are the baseline from now on."""
        rows = _stacked(self.baseline, self.window)[-studies:]
        return Stream(self.keys, rows, np.empty((0, rows.shape[1]), np.float32), True, 0)

    def verdicts(self, minimum: int) -> dict[str, Verdict]:
        """Every signal for which baseline and window both have ``minimum`` studies."""
        if not self.complete or len(self.window) < minimum:
            return {}
        count = len(self.keys)
        old, new = self.baseline.astype(np.float64), self.window.astype(np.float64)
        found: dict[str, Verdict] = {}
        for column, name in enumerate((*(f"score {key}" for key in self.keys), *_OWN)):
            pair = [rows[~np.isnan(rows[:, column]), column] for rows in (old, new)]
            if min(map(len, pair)) >= minimum:
                found[name] = _KINDS.get(name, distribution)(*pair)
        sketches = [rows[~np.isnan(rows[:, -1]), count + _EXTRA :] for rows in (old, new)]
        if min(map(len, sketches)) >= minimum and sketches[0].shape[1]:
            found["embedding mean"] = mean_shift(*sketches)
            found["embedding spread"] = spread(*sketches)
        return found


def _stacked(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([rows for rows in (first, second) if len(rows)]) if len(first) or len(second) else first


def _row(one: Observation, keys: Sequence[str]) -> list[float]:
    scores = [one.scores.get(key) for key in keys]
    missing = sum(score is None for score in scores) / len(scores) if scores else 0.0
    own = [one.words, None if one.unread else missing, None if one.words is None else float(one.omits), float(one.unread)]
    sketch = one.sketch if len(one.sketch) == SKETCH_WIDTH else (None,) * SKETCH_WIDTH
    return [np.nan if value is None else float(value) for value in (*scores, *own, *sketch)]
