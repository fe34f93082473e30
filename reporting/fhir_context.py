"""Whom a reading is about and who answers for it: patient, order and organisation, as the record knows them."""

from __future__ import annotations

from datetime import date
from typing import Final

from pydicom import Dataset

from reporting import clean
from reporting.fhir_parts import SYSTEM, Entry, Json, lasting_entry, logical, present, terminology
from reporting.header import PRODUCT
from reporting.options import DocumentOptions
from reporting.source import SourceStudy
from reporting.uids import derive_uid

_GENDER: Final = {"M": "male", "F": "female", "O": "other"}
_REPRESENTATIONS: Final = ("ABC", "IDE", "SYL")  # alphabetic, ideographic, phonetic component groups of a PN
_REPRESENTATION_URL: Final = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


def patient(source: SourceStudy, options: DocumentOptions) -> Entry:
    birth = source.text("PatientBirthDate")
    resource = present(
        resourceType="Patient",
        name=_names(source.text("PatientName")),
        gender=_GENDER.get(source.text("PatientSex"), "unknown"),
        birthDate=_iso_date(birth),
    )
    return lasting_entry(resource, _patient_identifier(source, options))


def organisation(source: SourceStudy) -> Entry:
    """Who runs the node: the performer that IHE IMR asks for."""
    name = clean.one_line(source.context.institution or source.context.station_name) or PRODUCT
    identifier = {"system": SYSTEM, "value": derive_uid("organisation", source.context.institution, source.context.device_uid)}
    return lasting_entry({"resourceType": "Organization", "name": name}, identifier)


def service_request(accession: Json) -> Json:
    """The order, named by its accession number: a reading never creates an order."""
    return logical("ServiceRequest", accession)


def accession_identifier(source: SourceStudy, options: DocumentOptions) -> Json | None:
    number = source.text("AccessionNumber")
    if not number:
        return None
    issuers = clean.items(source.first, "IssuerOfAccessionNumberSequence")
    local = "".join(clean.text(item, "LocalNamespaceEntityID") for item in issuers)
    system = options.accession_identifier_system or _universal(issuers) or _local_system("accession", local, source)
    return {"type": terminology("v2-0203", "ACSN", "Accession ID"), "system": system, "value": number}


def _patient_identifier(source: SourceStudy, options: DocumentOptions) -> Json:
    """By Patient ID and its issuer; where the images have none, a stand-in of this study alone, so that nobody is mixed up."""
    number = source.text("PatientID")
    if not number:
        return {"system": SYSTEM, "value": derive_uid("patient of", source.context.study_instance_uid)}
    system = options.patient_identifier_system or _patient_system(source)
    return {"type": terminology("v2-0203", "MR", "Medical record number"), "system": system, "value": number}


def _patient_system(source: SourceStudy) -> str:
    universal = _universal(clean.items(source.first, "IssuerOfPatientIDQualifiersSequence"))
    return universal or _local_system("patient", source.text("IssuerOfPatientID"), source)


def _universal(issuers: tuple[Dataset, ...]) -> str:
    """The URI of an issuer that the images name by an ISO OID (PS3.3 table 10-17); empty where none does."""
    for item in issuers:
        entity = clean.text(item, "UniversalEntityID")
        if clean.text(item, "UniversalEntityIDType") == "ISO" and clean.is_uid(entity):
            return f"urn:oid:{entity}"
    return ""


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


def _iso_date(digits: str) -> str:
    return date.fromisoformat(digits).isoformat() if digits else ""
