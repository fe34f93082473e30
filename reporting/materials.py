"""What every builder of a document gets: one reading of one study, made once, so that no two documents can disagree."""

from __future__ import annotations

from dataclasses import dataclass

from inference.reading import Frame, FrameSource, Reading
from reporting.options import DocumentOptions
from reporting.source import SourceStudy
from reporting.uids import ReadingKey
from reporting.wording import Words


@dataclass(frozen=True, slots=True, eq=False)
class Materials:
    """``frames``: the pictures that were read, as ``inference`` saw them; empty where nothing was rendered."""

    source: SourceStudy
    reading: Reading
    options: DocumentOptions
    key: ReadingKey
    frames: tuple[Frame, ...] = ()

    @property
    def words(self) -> Words:
        return self.options.words

    def frame(self, source: FrameSource) -> Frame | None:
        """The picture that ``source`` names, where it was rendered."""
        return next((frame for frame in self.frames if frame.source == source), None)
