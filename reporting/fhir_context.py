"""The resources that a reading finds in the record or puts there once: patient, imaging study, devices, organisation."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from typing import Final

from inference.reading import Code, ModelVersion
from reporting import clean, codes, wording
from reporting.fhir_parts import DICOM_UID_SYSTEM, SYSTEM, Entry, Json, coding, lasting_entry, present, terminology
from reporting.header import PRODUCT
from reporting.options import DocumentOptions
from reporting.source import SourceStudy
from reporting.uids import derive_uid, device_uid

_GENDER: Final = {"M": "male", "F": "female", "O": "other"}
_REPRESENTATIONS: Final = ("ABC", "IDE", "SYL")  # alphabetic, ideographic, phonetic component groups of a PN
_REPRESENTATION_URL: Final = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_FHIR_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_OTHER: Final = codes.OTHER_MODALITY


def patient(source: SourceStudy, options: DocumentOptions) -> Entry:
    birth = source.text("PatientBirthDate")
    resource = present(
        resourceType="Patient",
        name=_names(source.text("PatientName")),
        gender=_GENDER.get(source.text("PatientSex"), "unknown"),
        birthDate=_iso_date(birth),
    )
    return lasting_entry(resource, _patient_identifier(source, options))


def imaging_study(source: SourceStudy, subject: Entry, options: DocumentOptions) -> Entry:
    accession = accession_identifier(source, options)
    uid = {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{source.context.study_instance_uid}"}
    resource = present(
        resourceType="ImagingStudy",
        status="available",
        subject=subject.reference,
        started=_iso_date(source.text("StudyDate")),
        modality=[_modality(name) for name in source.modalities],
        basedOn=[service_request(accession)] if accession else [],
        numberOfSeries=len({one.series_instance_uid for one in source.instances}),
        numberOfInstances=len(source.instances),
        description=source.text("StudyDescription"),
        series=_series(source),
    )
    return lasting_entry(resource, uid)


def model_device(model: ModelVersion) -> Entry:
    """A model as a Device of its own: other weights, other Device."""
    resource = present(
        resourceType="Device",
        status="active",
        manufacturer=clean.one_line(model.source),
        deviceName=[{"name": clean.one_line(model.name), "type": "model-name"}],
        modelNumber=clean.one_line(model.version),
        type={"text": f"AI model ({model.kind})"},
        version=[_version("model", model.version), _version("sha256", model.digest)],
        note=[{"text": clean.one_line(wording.model_line(model))}],
    )
    return lasting_entry(resource, {"system": SYSTEM, "value": device_uid(model.digest)})


def node_device(source: SourceStudy, options: DocumentOptions) -> Entry:
    """The installation that ran the models."""
    resource = present(
        resourceType="Device",
        status="active",
        manufacturer=clean.one_line(options.manufacturer),
        deviceName=[{"name": PRODUCT, "type": "model-name"}],
        type={"text": "DICOM node for AI readings"},
        version=[_version("software", options.software_version)],
    )
    value = derive_uid("node", source.context.device_uid, options.software_version)
    return lasting_entry(resource, {"system": SYSTEM, "value": value})


def organisation(source: SourceStudy) -> Entry:
    """Who runs the node: the performer that IHE IMR asks for."""
    name = clean.one_line(source.context.institution or source.context.station_name) or PRODUCT
    identifier = {"system": SYSTEM, "value": derive_uid("organisation", source.context.institution, source.context.device_uid)}
    return lasting_entry({"resourceType": "Organization", "name": name}, identifier)


def service_request(accession: Json) -> Json:
    """The order, named by its accession number: a reading never creates an order."""
    return {"type": "ServiceRequest", "identifier": accession}


def accession_identifier(source: SourceStudy, options: DocumentOptions) -> Json | None:
    number = source.text("AccessionNumber")
    if not number:
        return None
    issuers = [
        clean.text(item, "LocalNamespaceEntityID") for item in clean.items(source.first, "IssuerOfAccessionNumberSequence")
    ]
    system = options.accession_identifier_system or _local_system("accession", "".join(issuers), source)
    return {"type": terminology("v2-0203", "ACSN", "Accession ID"), "system": system, "value": number}


def _patient_identifier(source: SourceStudy, options: DocumentOptions) -> Json:
    """By Patient ID and its issuer; where the images have none, a stand-in of this study alone, so that nobody is mixed up."""
    number = source.text("PatientID")
    if not number:
        return {"system": SYSTEM, "value": derive_uid("patient of", source.context.study_instance_uid)}
    system = options.patient_identifier_system or _patient_system(source)
    return {"type": terminology("v2-0203", "MR", "Medical record number"), "system": system, "value": number}


def _patient_system(source: SourceStudy) -> str:
    for item in clean.items(source.first, "IssuerOfPatientIDQualifiersSequence"):
        entity = clean.text(item, "UniversalEntityID")
        if clean.text(item, "UniversalEntityIDType") == "ISO" and clean.is_uid(entity):
            return f"urn:oid:{entity}"
    return _local_system("patient", source.text("IssuerOfPatientID"), source)


def _local_system(what: str, issuer: str, source: SourceStudy) -> str:
    """A URI for an issuer with a local name only: two sites' equal numbers must not meet."""
    return f"urn:oid:{derive_uid('issuer', what, issuer or source.context.institution or source.context.device_uid)}"


def _names(name: str) -> list[Json]:
    groups = list(zip(_REPRESENTATIONS, name.split("="), strict=False))
    return [_human_name(kind, group, len(groups) > 1) for kind, group in groups if group.strip("^ ")]


def _human_name(kind: str, group: str, several: bool) -> Json:
    family, given, middle, prefix, suffix = (part.strip() for part in (group.split("^") + [""] * 5)[:5])
    extension = [{"url": _REPRESENTATION_URL, "valueCode": kind}] if several else []
    return present(
        extension=extension,
        text=" ".join(part for part in (prefix, given, middle, family, suffix) if part),
        family=family,
        given=[part for part in (given, middle) if part],
        prefix=[prefix] if prefix else [],
        suffix=[suffix] if suffix else [],
    )


def _series(source: SourceStudy) -> list[Json]:
    """Series with their instance counts; one whose UID FHIR's id type cannot hold is counted but not listed."""
    counts = Counter((one.series_instance_uid, one.modality) for one in source.instances)
    return [
        {"uid": uid, "modality": _modality(modality), "numberOfInstances": count}
        for (uid, modality), count in counts.items()
        if _FHIR_ID.fullmatch(uid)
    ]


def _modality(name: str) -> Json:
    """The defined terms of Modality are DCM codes themselves; what is no term becomes OT."""
    return coding(codes.MODALITIES.get(name, Code(name, "DCM", name) if name.isalnum() else _OTHER)) or {}


def _version(what: str, value: str) -> Json:
    return {"type": {"text": what}, "value": clean.one_line(value) or "unknown"}


def _iso_date(digits: str) -> str:
    """A date only: the time of a study has no time zone, and FHIR takes no time without one."""
    return date.fromisoformat(digits).isoformat() if digits else ""
