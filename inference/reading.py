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
    NOT_ASSESSABLE = "not assessable"  # no probability, or one too near the threshold; ``Finding.reason`` says which and why


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
    ``pixel_spacing_mm``: (between rows, between columns) of the image, or None where the file does not say.
    ``full_size``: (rows, columns) of the image where ``pixels`` show it smaller; places in it are given in pixels of that size.
    ``modality``, ``body_part``, ``view`` are the DICOM defined terms as sent, upper case; empty where absent.
    """

    pixels: NDArray[np.uint8]
    source: FrameSource
    modality: str
    body_part: str = ""
    view: str = ""
    window: str = ""  # how the values were mapped, for a person: "window 1 of file (C 40 W 400)"
    pixel_spacing_mm: tuple[float, float] | None = None
    full_size: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of the image, of which ``pixels`` may show a smaller picture."""
        return self.full_size or (self.pixels.shape[0], self.pixels.shape[1])


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


class Method(StrEnum):
    """How a probability was formed."""

    ZERO_SHOT = "zero-shot"  # the model's own softmax over prompts, uncalibrated
    CALIBRATED = "calibrated"  # the same after a calibration fitted on a site's labelled films
    PROBE = "probe"  # a linear head on the embedding, fitted on a site's labelled films


@dataclass(frozen=True, slots=True)
class HeadVersion:
    """A calibration or probe that took part: what was fitted on labelled films, and for which model."""

    kind: str  # calibration · probe
    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Where on one image triage saw one finding.

    ``values``: rows of a coarse grid, each value in 0..1, 1 where the finding's score rests most.
    ``box``: the part of the image the grid covers, (top, left, bottom, right) in pixels of the frame counted from its upper
    left corner, edges and not centres: the model may see only a square cut from the middle.
    """

    key: str
    source: FrameSource
    values: tuple[tuple[float, ...], ...]
    box: tuple[float, float, float, float]
    method: str  # how it was made, for a person: "gradient-weighted attention rollout"


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
    method: Method = Method.ZERO_SHOT
    aggregation: str = ""  # how several images became one number, for a person: "highest of 3 images"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a draft; ``confidence`` is exp(mean token log-probability), 0..1.

    ``source``: the image it was written from. ``contradicts``: keys of the findings that say otherwise.
    """

    text: str
    confidence: float
    source: FrameSource | None = None
    contradicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftReport:
    """Draft text, or no sentences and the ``reason``.

    ``impression``: the summary of ``sentences``, empty where no model wrote one. ``omits``: keys of positive findings that
    the draft does not mention. ``notes``: what was left out of the model's text and why, a plain sentence each.
    ``checked``: how the text was held against the findings, for a person; empty where it was not. ``pending``: the findings
    stand already and the text is still to be written, as ``reason`` says.
    """

    sentences: tuple[Sentence, ...]
    reason: str = ""
    source: FrameSource | None = None
    impression: tuple[Sentence, ...] = ()
    omits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    checked: str = ""
    pending: bool = False

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
    finding is NOT_ASSESSABLE. ``models`` holds triage first, then drafting, where each took part. ``precision`` says in which
    arithmetic the models ran, as chosen and checked when they were loaded.
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
    heads: tuple[HeadVersion, ...] = ()
    heat_maps: tuple[HeatMap, ...] = ()
    shadow: tuple[Finding, ...] = ()  # what a head on trial would have said; never in a document
    sketch: tuple[float, ...] = ()  # what its images look like to triage (``triage.sketch``), for watching drift

    @property
    def assessed(self) -> bool:
        return not self.reason

    @property
    def phantom(self) -> bool:
        return any(model.phantom for model in self.models)

    @property
    def positives(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.decision is Decision.POSITIVE)
