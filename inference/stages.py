"""What passes between the stages of a reading: plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inference.reading import Frame, Reading, Skipped

DRAFT_FOLLOWS: Final = "the draft is still being written and follows"


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """What is to be read: the frames of one study, and what of it could not be shown."""

    frames: tuple[Frame, ...]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Triaged:
    """The findings of one study. ``reading``: whole but for its draft, where one is to come.

    ``frames``: those that were judged, from which the draft is written.
    """

    reading: Reading
    frames: tuple[Frame, ...]

    @property
    def pending(self) -> bool:
        """Whether a draft is still to be written."""
        return self.reading.draft.pending
