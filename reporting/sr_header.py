"""What both of our SR documents carry around their content tree: series, document state, evidence, requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydicom import Dataset

from inference.reading import Reading
from reporting import clean, codes
from reporting.content import coded, put
from reporting.context import Predecessor
from reporting.header import equipment, patient_and_study
from reporting.options import DocumentOptions
from reporting.source import SourceStudy, code_of, request_items
from reporting.uids import ReadingKey

_REQUEST: Final = ("RequestedProcedureID", "RequestedProcedureDescription", "AccessionNumber")


@dataclass(frozen=True, slots=True)
class SrFrame:
    """Which document the header is for."""

    kind: str
    sop_class_uid: str
    series_number: int
    series_description: str


def sr_dataset(
    source: SourceStudy, reading: Reading, options: DocumentOptions, key: ReadingKey, frame: SrFrame, root: Dataset
) -> Dataset:
    """A whole SR document: ``root`` is its content tree. PARTIAL and UNVERIFIED: software never signs."""
    ds = Dataset()
    put(ds, SpecificCharacterSet="ISO_IR 192", SOPClassUID=frame.sop_class_uid, SOPInstanceUID=key.uid(frame.kind))
    patient_and_study(ds, source)
    _series(ds, source, key, frame)
    equipment(ds, source, reading, options)
    _general(ds, source, frame.kind)
    for element in root:
        ds[element.tag] = element
    put(ds, CodingSchemeIdentificationSequence=_schemes(ds))
    return ds


def _series(ds: Dataset, source: SourceStudy, key: ReadingKey, frame: SrFrame) -> None:
    put(
        ds,
        Modality="SR",
        SeriesInstanceUID=key.uid(frame.kind, "series"),
        SeriesNumber=frame.series_number,
        SeriesDescription=frame.series_description,
        SeriesDate=source.written_at.strftime("%Y%m%d"),
        SeriesTime=source.written_at.strftime("%H%M%S.%f"),
        ReferencedPerformedProcedureStepSequence=[],
    )


def _general(ds: Dataset, source: SourceStudy, kind: str) -> None:
    """SR Document General (C.17.2)."""
    written = source.written_at
    put(
        ds,
        InstanceNumber=source.context.revision,
        InstanceCreationDate=written.strftime("%Y%m%d"),
        InstanceCreationTime=written.strftime("%H%M%S.%f"),
        ContentDate=written.strftime("%Y%m%d"),
        ContentTime=written.strftime("%H%M%S.%f"),
        CompletionFlag="PARTIAL",
        VerificationFlag="UNVERIFIED",
        PreliminaryFlag="PRELIMINARY",
        PerformedProcedureCodeSequence=[coded(code) for code in source.procedures],
    )
    offset = source.text("TimezoneOffsetFromUTC")
    if (
        offset and written.strftime("%z") == offset
    ):  # it would speak for the copied study time too, so only the source may say it
        put(ds, TimezoneOffsetFromUTC=offset)
    if source.instances:
        put(ds, CurrentRequestedProcedureEvidenceSequence=[_evidence(source)])
    if earlier := [one for one in source.context.predecessors if one.kind == kind]:
        put(ds, PredecessorDocumentsSequence=[_predecessors(source, earlier)])
    if requests := _requests(source):
        put(ds, ReferencedRequestSequence=requests)


def _predecessors(source: SourceStudy, earlier: list[Predecessor]) -> Dataset:
    """What this document replaces (C.17.2.4): the same study's document of the revision before."""
    items = []
    for one in earlier:
        reference = put(Dataset(), ReferencedSOPClassUID=one.sop_class_uid, ReferencedSOPInstanceUID=one.uid)
        items.append(put(Dataset(), SeriesInstanceUID=one.series_instance_uid, ReferencedSOPSequence=[reference]))
    return put(Dataset(), StudyInstanceUID=source.context.study_instance_uid, ReferencedSeriesSequence=items)


def _evidence(source: SourceStudy) -> Dataset:
    """All instances sent, by series (C.17.2.3)."""
    series: dict[str, list[Dataset]] = {}
    for instance in source.instances:
        reference = put(
            Dataset(), ReferencedSOPClassUID=instance.sop_class_uid, ReferencedSOPInstanceUID=instance.sop_instance_uid
        )
        series.setdefault(instance.series_instance_uid, []).append(reference)
    items = [put(Dataset(), SeriesInstanceUID=uid, ReferencedSOPSequence=found) for uid, found in series.items()]
    return put(Dataset(), StudyInstanceUID=source.context.study_instance_uid, ReferencedSeriesSequence=items)


def _requests(source: SourceStudy) -> list[Dataset]:
    """The requests that this document helps to fulfil (SWF.b: accession and requested procedure are copied)."""
    return [item for found in request_items(source) if (item := _request(found, source))]


def _request(found: Dataset, source: SourceStudy) -> Dataset | None:
    values = {keyword: clean.text(found, keyword) or source.text(keyword) for keyword in _REQUEST}
    procedure = [code for item in clean.items(found, "RequestedProcedureCodeSequence") if (code := code_of(item))]
    if not any(values.values()) and not procedure:
        return None
    return put(
        Dataset(),
        **values,
        StudyInstanceUID=source.context.study_instance_uid,
        ReferencedStudySequence=[],
        RequestedProcedureCodeSequence=[coded(code) for code in procedure or source.requested],
        PlacerOrderNumberImagingServiceRequest=clean.text(found, "PlacerOrderNumberImagingServiceRequest"),
        FillerOrderNumberImagingServiceRequest=clean.text(found, "FillerOrderNumberImagingServiceRequest"),
    )


def _schemes(ds: Dataset) -> list[Dataset]:
    """Each coding scheme used, identified (C.12.1): a reader that has never met us knows whose 99WETREAD is."""
    used: dict[str, None] = {}
    for element in ds.iterall():
        if element.keyword == "CodingSchemeDesignator":
            used[str(element.value)] = None
    return [_scheme(name) for name in sorted(used)]


def _scheme(designator: str) -> Dataset:
    item = put(Dataset(), CodingSchemeDesignator=designator)
    known = codes.SCHEMES.get(designator)
    return put(item, CodingSchemeUID=known.uid, CodingSchemeName=known.name) if known else item
