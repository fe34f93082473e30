"""What both of our SR documents carry around their content tree: series, document state, evidence, requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset

from inference.reading import Reading
from reporting import clean, codes, encoding
from reporting.comparison import Comparison
from reporting.content import Item, coded, put, put_root
from reporting.context import DocumentKind, Predecessor
from reporting.header import equipment, patient_and_study
from reporting.options import DocumentOptions
from reporting.source import Instance, SourceStudy, code_of, prior_images, request_items
from reporting.uids import ReadingKey

_EVIDENCE: Final = 0x0040A375  # Current Requested Procedure Evidence Sequence
_OTHER_EVIDENCE: Final = 0x0040A385  # Pertinent Other Evidence Sequence
_REQUEST: Final = ("RequestedProcedureID", "RequestedProcedureDescription", "AccessionNumber")


@dataclass(frozen=True, slots=True)
class Companion:
    """Another document of the same reading."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str

    @classmethod
    def of(cls, key: ReadingKey, kind: DocumentKind, sop_class_uid: str) -> Companion:
        """The document of this kind, whether it was made already or is made later."""
        return cls(sop_class_uid, key.uid(kind), key.uid(kind, "series"))


@dataclass(frozen=True, slots=True)
class SrFrame:
    """Which document the header is for. ``companion``: a document of the same reading that its content names.

    ``priors``: earlier studies whose images it names.
    """

    kind: str
    sop_class_uid: str
    series_number: int
    series_description: str
    companion: Companion | None = None
    priors: tuple[Comparison, ...] = ()


def sr_dataset(
    source: SourceStudy, reading: Reading, options: DocumentOptions, key: ReadingKey, frame: SrFrame, root: Item
) -> Dataset:
    """A whole SR document: ``root`` is its content tree. PARTIAL and UNVERIFIED: software never signs."""
    ds = Dataset()
    put(ds, SpecificCharacterSet="ISO_IR 192", SOPClassUID=frame.sop_class_uid, SOPInstanceUID=key.uid(frame.kind))
    patient_and_study(ds, source)
    _series(ds, source, key, frame)
    equipment(ds, source, reading, options)
    _general(ds, source, frame.kind)
    used = {str(one.value) for one in ds.iterall() if one.keyword == "CodingSchemeDesignator"} | root.schemes()
    put(ds, CodingSchemeIdentificationSequence=[_scheme(name) for name in sorted(used)])
    if source.instances or frame.companion:
        ds[_EVIDENCE] = encoding.raw_sequence(_EVIDENCE, [_evidence(source, frame.companion)])
    if earlier := [item for prior in frame.priors if (item := _prior_evidence(prior))]:
        ds[_OTHER_EVIDENCE] = encoding.raw_sequence(_OTHER_EVIDENCE, earlier)
    put_root(ds, root, options.words)
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


def _evidence(source: SourceStudy, companion: Companion | None) -> bytes:
    """All instances sent, by series (C.17.2.3): of a CT thousands; and what else of the study the content names."""
    return _study_evidence(source.context.study_instance_uid, (*source.instances, *([companion] if companion else ())))


def _prior_evidence(prior: Comparison) -> bytes:
    """The images of an earlier study; empty where it has none that can be referred to."""
    images = prior_images(prior)
    return _study_evidence(prior.study_uid, images) if images else b""


def _study_evidence(study_uid: str, named: Iterable[Instance | Companion]) -> bytes:
    series: dict[str, list[bytes]] = {}
    for one in named:
        series.setdefault(one.series_instance_uid, []).append(encoding.reference(one.sop_class_uid, one.sop_instance_uid))
    items = [encoding.sequence(0x00081199, found) + encoding.text(0x0020000E, b"UI", uid) for uid, found in series.items()]
    return encoding.sequence(0x00081115, items) + encoding.text(0x0020000D, b"UI", study_uid)


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


def _scheme(designator: str) -> Dataset:
    """A coding scheme identified (C.12.1): a reader that has never met us knows whose 99WETREAD is."""
    item = put(Dataset(), CodingSchemeDesignator=designator)
    known = codes.SCHEMES.get(designator)
    if known is None:
        return item
    put(item, CodingSchemeUID=known.uid, CodingSchemeName=known.name)
    return put(item, CodingSchemeVersion=known.version) if known.version else item
