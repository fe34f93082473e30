"""What a radiologist's workstation would take from our reports, read with nothing of the project."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, EnhancedSRStorage

OURS = "WetRead"  # Manufacturer (0008,0070)
FINDINGS, DRAFT = Comprehensive3DSRStorage, EnhancedSRStorage


def is_ours(dataset: Dataset) -> bool:
    return str(dataset.get("Manufacturer", "")) == OURS


def items(dataset: Dataset) -> Iterator[Dataset]:
    """Every content item, depth first."""
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from items(item)


def name(item: Dataset) -> str:
    concepts = item.get("ConceptNameCodeSequence", [])
    return str(concepts[0].CodeMeaning) if concepts else ""


def meaning(item: Dataset) -> str:
    return str(item.ConceptCodeSequence[0].CodeMeaning)


def texts(dataset: Dataset) -> list[str]:
    """The text of every TEXT item."""
    return [str(item.TextValue) for item in items(dataset) if item.ValueType == "TEXT"]


def presences(dataset: Dataset) -> dict[str, str]:
    """Of each measurement group: the finding's meaning to whether it is present, absent or undetermined."""
    found = {}
    for group in items(dataset):
        if name(group) == "Measurement Group":
            parts = {name(item): item for item in group.ContentSequence}
            found[meaning(parts["Finding"])] = meaning(parts["Presence of property"])
    return found


def outcome(dataset: Dataset) -> str:
    """The reading as a whole: "Assessed" or "Not assessable"."""
    return next(meaning(item) for item in items(dataset) if name(item) == "Reading outcome")


def images(dataset: Dataset) -> set[str]:
    """SOP Instance UIDs of the images that content items refer to."""
    return {
        str(reference.ReferencedSOPInstanceUID)
        for item in items(dataset)
        if item.ValueType in ("IMAGE", "WAVEFORM")
        for reference in item.ReferencedSOPSequence
    }


def evidence(dataset: Dataset) -> set[str]:
    """SOP Instance UIDs that the document lists as its evidence (PS3.3 C.17.2.3), but for the findings that a draft names."""
    return {
        str(reference.ReferencedSOPInstanceUID)
        for sequence in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in dataset.get(sequence, [])
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
        if reference.ReferencedSOPClassUID != FINDINGS
    }
