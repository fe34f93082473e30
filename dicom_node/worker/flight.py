"""One study on its way through the worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from dicom_node.flow import Prepared
from dicom_node.storage.jobs import Job
from inference.reading import Frame, Reading, Skipped
from inference.stages import Study, Triaged


class StagedReader(Protocol):
    """What the worker needs of ``inference.engine.Engine``, which describes it."""

    def triage(self, studies: Sequence[Study]) -> list[Triaged]: ...

    def finish(self, triaged: Sequence[Triaged]) -> list[Reading]: ...

    def resume(self, reading: Reading, frames: Sequence[Frame]) -> Triaged: ...

    def refuse(self, reason: str, skipped: Sequence[Skipped] = ()) -> Reading: ...


class Next(Enum):
    """Where a study goes next."""

    TRIAGE = auto()
    DRAFT = auto()
    FIRST = auto()  # its findings are saved, while its draft is written
    SAVE = auto()
    END = auto()


@dataclass(slots=True, eq=False)
class Flight:
    """What is known of the study so far. One stage has it at a time, but for FIRST, which only reads what triage gave.

    ``sent``: its findings are saved, or are to be before the rest. ``drafting``: its draft waits or is being written.
    ``reading``: whole. ``error``: why there is none. ``ended``: nothing more is to be done.
    """

    job: Job
    began: float = field(default_factory=time.monotonic)
    reader: StagedReader | None = None
    prepared: Prepared | None = None
    triaged: Triaged | None = None
    reading: Reading | None = None
    error: Exception | None = None
    sent: bool = False
    drafting: bool = False
    ended: bool = False

    @property
    def name(self) -> str:
        """Of the reading that is wanted."""
        return str(self.job.payload["reading"])

    @property
    def frame_bytes(self) -> int:
        """What its pictures take."""
        return sum(frame.pixels.nbytes for frame in self.prepared.frames) if self.prepared else 0
