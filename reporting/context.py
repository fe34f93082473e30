"""What a document must say of its patient, study and source images."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydicom import Dataset

from reporting.comparison import PriorReading


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A document of the study's last earlier revision, which one of the same kind replaces (PS3.3 C.17.2.4)."""

    kind: DocumentKind
    uid: str
    sop_class_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True, eq=False)
class StudyContext:
    """A study as its documents need it.

    ``headers``: one dataset per instance that a document may refer to, as received, without pixel data (and without
    group 0002); patient, study and request attributes are copied from the first. Never empty.
    ``revision`` counts the readings of this study from 1; ``read_at`` is aware, and fixed when the job was made, so that a
    retry builds the same bytes. ``station_name``, ``institution``: of this node. ``predecessors``: what the last revision made.
    ``priors``: what the node said of earlier studies of the same patient, to compare with.
    """

    study_instance_uid: str
    headers: tuple[Dataset, ...]
    revision: int
    read_at: datetime
    input_digest: str  # sha256 over the instances read, in SOP Instance UID order
    device_uid: str  # of this installation, for the observer context
    station_name: str = "WETREAD"
    institution: str = ""
    predecessors: tuple[Predecessor, ...] = ()
    priors: tuple[PriorReading, ...] = ()


class DocumentKind(StrEnum):
    """What a destination may ask for; the order is that in which documents are built and sent."""

    FINDINGS_SR = "findings-sr"  # Comprehensive 3D SR, TID 1500
    DRAFT_SR = "draft-sr"  # Enhanced SR in the shape of TID 2000
    TEXT_SR = "text-sr"  # Basic Text SR: the draft for importers that read nothing else
    HEAT_MAP = "heat-map"  # Multi-frame or single-frame Secondary Capture, colour over film
    HEAT_MAP_GSPS = "heat-map-gsps"  # Grayscale Softcopy Presentation State that outlines the same places
    PDF = "pdf"  # Encapsulated PDF of one page
    FHIR_BUNDLE = "fhir-bundle"  # FHIR transaction Bundle
    HL7_ORU = "hl7-oru"  # HL7 v2 ORU^R01


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule that a document breaks: its stable name, the clause where it stands, and what is wrong without patient data."""

    rule: str
    clause: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} [{self.rule}, {self.clause}]"


@dataclass(frozen=True, slots=True)
class Document:
    """A finished document, ready to be sent unchanged any number of times.

    ``content``: a DICOM Part 10 file, UTF-8 FHIR JSON, or an HL7 v2 message. ``uid``: its SOP Instance UID, the Bundle's
    identifier or the message's. ``faults``: the rules it breaks; a document with one is held, shown to an operator, not sent.
    """

    kind: DocumentKind
    uid: str
    content: bytes
    sop_class_uid: str = ""  # empty for a document that is not DICOM
    series_instance_uid: str = ""
    faults: tuple[Fault, ...] = ()
    fhir_version: str = ""  # of a FHIR document: "" (4.0) or "5.0"

    @property
    def media_type(self) -> str:
        if self.sop_class_uid:
            return "application/dicom"
        if self.kind is DocumentKind.HL7_ORU:
            return "x-application/hl7-v2+er7"
        return f"application/fhir+json; fhirVersion={self.fhir_version}" if self.fhir_version else "application/fhir+json"

    @property
    def suffix(self) -> str:
        if self.sop_class_uid:
            return ".dcm"
        return ".hl7" if self.kind is DocumentKind.HL7_ORU else ".json"
