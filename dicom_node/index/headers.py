"""What the index tells of a file: the attributes of its patient, study, series and instance, as DICOM JSON (PS3.18 F.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_node.errors import StorageError
from dicom_node.pixels.opening import read_instance
from dicom_node.pixels.quiet import quiet

Attributes = dict[str, Any]  # tag, 8 hexadecimal digits, to {"vr": …, "Value": […]}

STUDY: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription",
    "ReferringPhysicianName",
)  # fmt: skip
SERIES: Final = (
    "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime", "BodyPartExamined",
    "Laterality", "ProtocolName", "StationName", "Manufacturer", "ManufacturerModelName", "InstitutionName",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "FrameOfReferenceUID",
)  # fmt: skip
INSTANCE: Final = (
    "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime",
    "Rows", "Columns", "BitsAllocated", "NumberOfFrames", "CompletionFlag", "VerificationFlag",
)  # fmt: skip
COUNTED: Final = (
    "ModalitiesInStudy", "SOPClassesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances", "AvailableTransferSyntaxUID",
)  # fmt: skip


def tags_of(keywords: Sequence[str]) -> list[str]:
    """8 hexadecimal digits of each."""
    return [f"{tag:08X}" for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None]


KNOWN: Final = frozenset(tags_of([*STUDY, *SERIES, *INSTANCE, *COUNTED]))


@dataclass(frozen=True, slots=True)
class Described:
    """A file's attributes by level. ``transfer_syntax``: of its file meta."""

    study: Attributes
    series: Attributes
    instance: Attributes
    transfer_syntax: str


def describe(path: Path) -> Described | None:
    """None for a file that is gone, or cannot be read as DICOM within the limits of a decoder process.

    Raises StorageError for one that cannot be opened at the moment.
    """
    try:
        with quiet():
            instance = read_instance(path)
            levels = [_attributes(instance.header, keywords) for keywords in (STUDY, SERIES, INSTANCE)]
    except StorageError:
        if path.exists():
            raise
        return None
    except Exception:  # noqa: BLE001  whatever a header does to the reader, the other files are indexed
        return None
    return Described(levels[0], levels[1], levels[2], instance.transfer_syntax)


def _attributes(dataset: Dataset, keywords: Sequence[str]) -> Attributes:
    found: Attributes = {}
    for keyword in keywords:
        try:
            element = dataset.get_item(tag_for_keyword(keyword) or 0)
            if element is not None:
                found[f"{element.tag:08X}"] = _json(dataset[element.tag])
        except Exception:  # noqa: BLE001  one value that cannot be decoded is left out
            continue
    return found


def _json(element: DataElement) -> Any:
    return element.to_json_dict(lambda _: "", bulk_data_threshold=1 << 20)


def element(keyword: str, *values: str | int) -> tuple[str, Any]:
    """One attribute that no file tells."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"{tag:08X}", {"vr": dictionary_VR(tag), **({"Value": list(values)} if values else {})}


def values_of(attributes: Mapping[str, Any], keyword: str) -> list[str]:
    """The values of an attribute as text; of a name its groups joined by "="."""
    found = attributes.get(f"{tag_for_keyword(keyword) or 0:08X}", {})
    return [text_of(value) for value in found.get("Value", ())]


def text_of(value: Any) -> str:
    if isinstance(value, dict):
        groups = (str(value.get(name) or "") for name in ("Alphabetic", "Ideographic", "Phonetic"))
        return "=".join(groups).rstrip("=")
    return "" if value is None else str(value)
