"""What goes into a reading and what comes out: plain frozen data, no DICOM, no torch.

``Frame`` is the only input of the engine, ``Reading`` its only output. Both are translated elsewhere:
frames are made by ``dicom_node.pixels``, documents of a reading by ``reporting``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Decision(StrEnum):
    """What triage says of one finding."""

    POSITIVE = "positive"  # probability at or above the threshold
    NEGATIVE = "negative"  # probability below the threshold
    NOT_ASSESSABLE = "not assessable"  # no probability was formed; ``Finding.reason`` says why


class Urgency(StrEnum):
    """How soon a person must look when the finding is present."""

    STAT = "STAT"
    URGENT = "urgent"
    ROUTINE = "routine"


class UseMode(StrEnum):
    """What results may do."""

    RESEARCH = "research"  # nothing leaves the machine
    SHADOW = "shadow"  # runs live, holds its results
    ASSIST = "assist"  # drafts are returned to the PACS and the record


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: value, coding scheme designator (SCT, DCM, RADLEX, LN) and meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Which image a frame came from. ``frame_number`` counts from 1 as in PS3.3 C.7.6.16."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    frame_number: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image as a person would see it on a calibrated display.

    ``pixels``: uint8, (rows, columns) grey or (rows, columns, 3) RGB, 0 black to 255 white, after the modality LUT,
    VOI window and photometric interpretation (PS3.4 N.2), MONOCHROME1 already inverted.
    ``pixel_spacing_mm``: (between rows, between columns), or None where the file does not say.
    ``modality``, ``body_part``, ``view`` are the DICOM defined terms as sent, upper case; empty where absent.
    """

    pixels: NDArray[np.uint8]
    source: FrameSource
    modality: str
    body_part: str = ""
    view: str = ""
    window: str = ""  # how the values were mapped, for a person: "window 1 of file (C 40 W 400)"
    pixel_spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """An instance (or frame) of the study that was not read, and why; ``reason`` is a plain sentence without patient data."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A model that took part, as a document must name it (TID 4019, IHE AIR).

    ``digest`` is the sha256 over the bundle's files: other weights, other digest.
    """

    name: str
    kind: str  # biomedclip · clip · biomedgpt
    version: str
    digest: str
    source: str
    licence: str
    intended_use: str
    phantom: bool
    acknowledgement: str = ""  # the operator's recorded permission, where the licence alone forbids the use mode


@dataclass(frozen=True, slots=True)
class Finding:
    """One catalogue entry judged on one study.

    ``probability`` is in 0..1 and None exactly when ``decision`` is NOT_ASSESSABLE; ``source`` is the image that decided.
    """

    key: str
    code: Code
    site: Code | None
    urgency: Urgency
    threshold: float
    decision: Decision
    probability: float | None = None
    reason: str = ""
    source: FrameSource | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a draft; ``confidence`` is exp(mean token log-probability), 0..1."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class DraftReport:
    """Draft text, or no sentences and the ``reason``."""

    sentences: tuple[Sentence, ...]
    reason: str = ""
    source: FrameSource | None = None

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Which catalogue of findings was asked."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything the node has to say of a study at one revision.

    ``reason`` is empty when at least one image was assessed; otherwise it is the sentence a radiologist reads, and every
    finding is NOT_ASSESSABLE. ``models`` holds triage first, then drafting, where each took part.
    """

    findings: tuple[Finding, ...]
    draft: DraftReport
    models: tuple[ModelVersion, ...]
    catalogue: Catalogue
    mode: UseMode
    sources: tuple[FrameSource, ...]
    skipped: tuple[Skipped, ...] = ()
    reason: str = ""
    device: str = "cpu"
    precision: str = "float32"

    @property
    def assessed(self) -> bool:
        return not self.reason

    @property
    def phantom(self) -> bool:
        return any(model.phantom for model in self.models)

    @property
    def positives(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.decision is Decision.POSITIVE)
