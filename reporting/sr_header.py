"""What both of our SR documents carry around their content tree: patient, study, series, equipment, evidence."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from inference.reading import ModelVersion, Reading
from reporting import clean, codes, wording
from reporting.content import coded, put
from reporting.options import DocumentOptions
from reporting.source import SourceStudy, code_of, request_items
from reporting.uids import IMPLEMENTATION_UID, ReadingKey, device_uid

PRODUCT: Final = "WetRead"
_SEXES: Final = ("M", "F", "O")
# Patient (PS3.3 C.7.1.1), General Study (C.7.2.1), SR Document Series: type 2 attributes stand even when empty
_TYPE_2: Final = (
    "PatientName", "PatientID", "PatientBirthDate",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
_TYPE_3: Final = ("IssuerOfPatientID", "StudyDescription", "PatientAge", "PatientWeight", "PatientSize", "PatientBirthTime")
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
    _patient_and_study(ds, source)
    _series(ds, source, key, frame)
    _equipment(ds, source, reading, options)
    _general(ds, source)
    for element in root:
        ds[element.tag] = element
    put(ds, CodingSchemeIdentificationSequence=_schemes(ds))
    return ds


def encode(ds: Dataset) -> bytes:
    """A Part 10 file, explicit VR little endian: the same dataset gives the same bytes."""
    meta = FileMetaDataset()
    put(
        meta,
        FileMetaInformationVersion=b"\x00\x01",
        MediaStorageSOPClassUID=ds.SOPClassUID,
        MediaStorageSOPInstanceUID=ds.SOPInstanceUID,
        TransferSyntaxUID=ExplicitVRLittleEndian,
        ImplementationClassUID=IMPLEMENTATION_UID,
        ImplementationVersionName="WETREAD",
    )
    ds.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def _patient_and_study(ds: Dataset, source: SourceStudy) -> None:
    put(ds, StudyInstanceUID=source.context.study_instance_uid)
    put(ds, **{keyword: source.text(keyword) for keyword in _TYPE_2})
    put(ds, **{keyword: value for keyword in _TYPE_3 if (value := source.text(keyword))})
    sex = source.text("PatientSex")
    put(ds, PatientSex=sex if sex in _SEXES else "")
    _deidentification(ds, source)
    if source.procedures:
        put(ds, ProcedureCodeSequence=[coded(code) for code in source.procedures])


def _deidentification(ds: Dataset, source: SourceStudy) -> None:
    """Patient Identity Removed needs a method beside it (C.7.1.1, type 1C)."""
    removed, method = source.text("PatientIdentityRemoved"), clean.texts(source.first, "DeidentificationMethod")
    method_codes = [code for item in clean.items(source.first, "DeidentificationMethodCodeSequence") if (code := code_of(item))]
    if removed == "YES" and (method or method_codes):
        put(ds, PatientIdentityRemoved="YES")
        if method:
            put(ds, DeidentificationMethod=method)
        if method_codes:
            put(ds, DeidentificationMethodCodeSequence=[coded(code) for code in method_codes])


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


def _equipment(ds: Dataset, source: SourceStudy, reading: Reading, options: DocumentOptions) -> None:
    context = source.context
    put(
        ds,
        Manufacturer=clean.one_line(options.manufacturer, 64),
        ManufacturerModelName=PRODUCT,
        DeviceSerialNumber=clean.one_line(context.device_uid, 64),
        SoftwareVersions=clean.one_line(options.software_version, 64),
    )
    if station := clean.one_line(context.station_name, 16):
        put(ds, StationName=station)
    if institution := clean.one_line(context.institution, 64):
        put(ds, InstitutionName=institution)
    if reading.models:
        put(ds, ContributingEquipmentSequence=[_contribution(model, source) for model in reading.models])


def _contribution(model: ModelVersion, source: SourceStudy) -> Dataset:
    """One algorithm as IHE AIR names it: a device whose UID changes with its weights."""
    return put(
        Dataset(),
        PurposeOfReferenceCodeSequence=[coded(codes.PROCESSING_EQUIPMENT)],
        Manufacturer=clean.one_line(model.source, 64) or "unknown",
        ManufacturerModelName=clean.one_line(model.name, 64),
        SoftwareVersions=[clean.one_line(model.version, 64), f"sha256 {model.digest[:56]}"],
        DeviceUID=device_uid(model.digest),
        ContributionDateTime=source.written_at.strftime("%Y%m%d%H%M%S.%f%z"),
        ContributionDescription=clean.many_lines(wording.model_line(model), 1024),
    )


def _general(ds: Dataset, source: SourceStudy) -> None:
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
    if requests := _requests(source):
        put(ds, ReferencedRequestSequence=requests)


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
