"""What every DICOM object of ours carries, whatever its class: patient, study, equipment, algorithms; and its encoding."""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

from inference.reading import HeadVersion, ModelVersion, Reading
from reporting import clean, codes
from reporting.content import coded, put
from reporting.heads import deciding_heads
from reporting.options import DocumentOptions
from reporting.source import SourceStudy, code_of
from reporting.uids import IMPLEMENTATION_UID, device_uid
from reporting.wording import Words

PRODUCT: Final = "WetRead"
_UNPAIRED: Final = frozenset(  # Body Part Examined (PS3.16 annex L): parts of which there is one
    [
        "ABDOMEN",
        "AORTA",
        "BLADDER",
        "BRAIN",
        "CHEST",
        "COCCYX",
        "COLON",
        "CSPINE",
        "ESOPHAGUS",
        "HEAD",
        "HEART",
        "LARYNX",
        "LIVER",
        "LSPINE",
        "MEDIASTINUM",
        "NECK",
        "PANCREAS",
        "PELVIS",
        "PHARYNX",
        "PROSTATE",
        "RECTUM",
        "SACRUM",
        "SKULL",
        "SPINE",
        "SPLEEN",
        "SSPINE",
        "STERNUM",
        "STOMACH",
        "TRACHEA",
        "TSPINE",
        "UTERUS",
    ]
)
_SEXES: Final = ("M", "F", "O")
# Patient (PS3.3 C.7.1.1), General Study (C.7.2.1), SR Document Series: type 2 attributes stand even when empty
_TYPE_2: Final = (
    "PatientName", "PatientID", "PatientBirthDate",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
_TYPE_3: Final = ("IssuerOfPatientID", "StudyDescription", "PatientAge", "PatientWeight", "PatientSize", "PatientBirthTime")
_ISSUERS: Final = ("IssuerOfPatientIDQualifiersSequence", "IssuerOfAccessionNumberSequence")


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
    buffer = DicomBytesIO(b"\0" * 128 + b"DICM")
    buffer.seek(0, 2)
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_file_meta_info(buffer, meta)
    for tag in sorted(ds.keys()):
        write_data_element(buffer, ds.get_item(tag), "ISO_IR 192")  # what is encoded already is written as it stands
    return bytes(buffer.getvalue())


def patient_and_study(ds: Dataset, source: SourceStudy) -> None:
    """PS3.3 C.7.1.1 and C.7.2.1, copied from the images."""
    put(ds, StudyInstanceUID=source.context.study_instance_uid)
    put(ds, **{keyword: source.text(keyword) for keyword in _TYPE_2})
    put(ds, **{keyword: value for keyword in _TYPE_3 if (value := source.text(keyword))})
    sex = source.text("PatientSex")
    put(ds, PatientSex=sex if sex in _SEXES else "")
    for keyword in _ISSUERS:
        if issuers := [item for found in clean.items(source.first, keyword) if (item := _issuer(found))]:
            put(ds, **{keyword: issuers})
    _deidentification(ds, source)
    if source.procedures:
        put(ds, ProcedureCodeSequence=[coded(code) for code in source.procedures])


def _issuer(found: Dataset) -> Dataset:
    """Who gave a number out: without it equal numbers of two issuers would meet (PS3.3 10.14 and table 10-17)."""
    names = {keyword: clean.text(found, keyword) for keyword in ("LocalNamespaceEntityID", "UniversalEntityID")}
    kind = clean.text(found, "UniversalEntityIDType")
    if names["UniversalEntityID"] and kind:
        names["UniversalEntityIDType"] = kind
    else:
        del names["UniversalEntityID"]
    return put(Dataset(), **{keyword: value for keyword, value in names.items() if value})


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


def body_part(ds: Dataset, source: SourceStudy) -> None:
    """Of a picture: Laterality (type 2C, C.7.3.1) stands unless the part is known to be one of a kind."""
    part, side = source.text("BodyPartExamined"), source.text("Laterality")
    if part:
        put(ds, BodyPartExamined=part)
    if part not in _UNPAIRED:
        put(ds, Laterality=side if side in ("R", "L") else "")


def equipment(ds: Dataset, source: SourceStudy, reading: Reading, options: DocumentOptions) -> None:
    """PS3.3 C.7.5.1, and each algorithm in the Contributing Equipment Sequence (C.12.1)."""
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
    made_by = [_contribution(model, source, options.words) for model in reading.models]
    made_by += [_head(head, source, options) for head in deciding_heads(reading)]
    if made_by:
        put(ds, ContributingEquipmentSequence=made_by)


def _contribution(model: ModelVersion, source: SourceStudy, words: Words) -> Dataset:
    """One algorithm as IHE AIR names it: a device whose UID changes with its weights."""
    return put(
        Dataset(),
        PurposeOfReferenceCodeSequence=[coded(codes.PROCESSING_EQUIPMENT)],
        Manufacturer=clean.one_line(model.source, 64) or "unknown",
        ManufacturerModelName=clean.one_line(model.name, 64),
        SoftwareVersions=[clean.one_line(model.version, 64), f"sha256 {model.digest[:56]}"],
        DeviceUID=device_uid(model.digest),
        ContributionDateTime=source.written_at.strftime("%Y%m%d%H%M%S.%f%z"),
        ContributionDescription=clean.many_lines(words.model_line(model), 1024),
    )


def _head(head: HeadVersion, source: SourceStudy, options: DocumentOptions) -> Dataset:
    """A calibration or probe is an algorithm of its own, made where it was fitted: at the site."""
    return put(
        Dataset(),
        PurposeOfReferenceCodeSequence=[coded(codes.PROCESSING_EQUIPMENT)],
        Manufacturer=clean.one_line(source.context.institution or options.manufacturer, 64),
        ManufacturerModelName=clean.one_line(head.name, 64) or head.kind,
        SoftwareVersions=[clean.one_line(head.version, 64), f"sha256 {head.digest[:56]}"],
        DeviceUID=device_uid(head.digest),
        ContributionDateTime=source.written_at.strftime("%Y%m%d%H%M%S.%f%z"),
        ContributionDescription=clean.many_lines(options.words.head_line(head), 1024),
    )
