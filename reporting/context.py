"""What a document must say of its patient, study and source images."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydicom import Dataset


@dataclass(frozen=True, slots=True, eq=False)
class StudyContext:
    """A study as its documents need it.

    ``headers``: one dataset per instance that a document may refer to, as received, without pixel data (and without
    group 0002); patient, study and request attributes are copied from the first. Never empty.
    ``revision`` counts the readings of this study from 1; ``read_at`` is aware, and fixed when the job was made, so that a
    retry builds the same bytes. ``station_name``, ``institution``: of this node.
    """

    study_instance_uid: str
    headers: tuple[Dataset, ...]
    revision: int
    read_at: datetime
    input_digest: str  # sha256 over the instances read, in SOP Instance UID order
    device_uid: str  # of this installation, for the observer context
    station_name: str = "WETREAD"
    institution: str = ""


class DocumentKind(StrEnum):
    FINDINGS_SR = "findings-sr"
    DRAFT_SR = "draft-sr"
    FHIR_BUNDLE = "fhir-bundle"


@dataclass(frozen=True, slots=True)
class Document:
    """A finished document, ready to be sent unchanged any number of times.

    ``content``: a DICOM Part 10 file, or UTF-8 FHIR JSON. ``uid``: its SOP Instance UID, or the Bundle's identifier.
    """

    kind: DocumentKind
    uid: str
    content: bytes
    sop_class_uid: str = ""  # empty for a document that is not DICOM

    @property
    def media_type(self) -> str:
        return "application/dicom" if self.sop_class_uid else "application/fhir+json"

    @property
    def suffix(self) -> str:
        return ".dcm" if self.sop_class_uid else ".json"
