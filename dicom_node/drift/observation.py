"""What is kept of one reading for the drift watch: scores, a sketch of the images, and how much was said."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from dicom_node.pixels.scanner import UNKNOWN
from dicom_node.storage.drift import Connection, NewObservation, add_observation
from inference.reading import Reading

SKETCH_WIDTH: Final = 32  # that of ``inference.triage.sketch``, which a process without torch does not load


@dataclass(frozen=True, slots=True)
class Observation:
    """``scores``: probability by finding, None where it is not assessable. ``sketch``: ``Reading.sketch``.

    ``words``: of the draft, None where there is none. ``omits``: the draft leaves a positive finding out.
    ``unread``: no image was assessed.
    """

    scores: dict[str, float | None]
    sketch: tuple[float, ...]
    words: int | None
    omits: bool
    unread: bool

    def packed(self) -> bytes:
        return json.dumps([self.scores, self.sketch, self.words, self.omits, self.unread], separators=(",", ":")).encode()

    @classmethod
    def unpacked(cls, content: bytes) -> Observation:
        scores, sketch, words, omits, unread = json.loads(content)
        return cls(scores, tuple(sketch), words, omits, unread)


def observe(
    conn: Connection, *, study_uid: str, revision: int, reading_name: str, reading: Reading, scanner: str, now: float
) -> None:
    """Leave word of a reading, in the transaction that saves it; the same study, revision and reading counts once.

    ``scanner``: ``pixels.scanner.scanner_of``. One INSERT; no statistics are made here.
    """
    content = observation_of(reading).packed()
    add_observation(
        conn, NewObservation(study_uid, revision, reading_name, models_of(reading), scanner or UNKNOWN, content), now
    )


def observation_of(reading: Reading) -> Observation:
    drafted = bool(reading.draft.sentences)
    return Observation(
        scores={finding.key: finding.probability for finding in reading.findings},
        sketch=reading.sketch,
        words=len(reading.draft.text.split()) if drafted else None,
        omits=bool(reading.draft.omits),
        unread=not reading.assessed,
    )


def models_of(reading: Reading) -> str:
    """Names the models, heads and catalogue together: a change of any of them starts new streams. At most 64 characters."""
    parts = [*(one.digest for one in reading.models), *(one.digest for one in reading.heads), reading.catalogue.digest]
    name = reading.models[0].name if reading.models else "no model"
    plain = "".join(char if char.isascii() and (char.isalnum() or char in " .-") else " " for char in name)
    return f"{' '.join(plain.split())[:50]} {hashlib.sha256(' '.join(parts).encode()).hexdigest()[:12]}"
