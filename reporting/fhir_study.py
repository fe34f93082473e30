"""The study as FHIR R4 knows it: ImagingStudy (IHE RAD IMR's profile of it) and the Endpoint where its images are fetched."""

from __future__ import annotations

import re
from typing import Final

from pydicom import Dataset

from inference.reading import Code
from reporting import clean, codes
from reporting.fhir_context import service_request
from reporting.fhir_parts import (
    DICOM_UID_SYSTEM,
    SYSTEM,
    Entry,
    Json,
    coding,
    concept,
    date_time,
    lasting_entry,
    present,
)
from reporting.options import DocumentOptions
from reporting.procedures import REGION_CODES, regions_of
from reporting.source import Instance, SourceStudy, request_items, zone_of
from reporting.uids import derive_uid

IMR_STUDY: Final = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-imagingstudy"
IMR_ENDPOINT: Final = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imaging-study-endpoint"
# A CT has thousands, and a record can ask the archive for them; up to so many are listed one by one
LISTED_INSTANCES: Final = 100
_FHIR_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_SIDES: Final = {
    "L": Code("7771000", "SCT", "Left"),
    "R": Code("24028007", "SCT", "Right"),
    "B": Code("51440002", "SCT", "Bilateral"),
}
_STUDY_PAYLOAD: Final = Code("113014", "DCM", "Study")


def study_time(source: SourceStudy) -> str:
    """When the study was made, as exactly as its images say; empty where they do not."""
    return date_time(source.text("StudyDate"), source.text("StudyTime"), zone_of(source.first))


def endpoint(options: DocumentOptions) -> Entry | None:
    """Where DICOMweb serves the site's studies; None where the settings name no such place."""
    address = options.dicomweb_url.rstrip("/")
    if not address:
        return None
    connection = {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "dicom-wado-rs"}
    resource = {
        "resourceType": "Endpoint",
        "meta": {"profile": [IMR_ENDPOINT]},
        "status": "active",
        "connectionType": {**connection, "display": "DICOM WADO-RS"},
        "payloadType": [concept(_STUDY_PAYLOAD)],
        "address": address,
    }
    return lasting_entry(resource, {"system": SYSTEM, "value": derive_uid("endpoint", address)})


def imaging_study(
    source: SourceStudy, subject: Entry, place: Entry | None, accession: Json | None, procedures: tuple[Code, ...]
) -> Entry:
    """``place``: its Endpoint; IMR's profile is claimed only with it, since it demands one. ``accession``: its order's."""
    modalities = [modality(name) for name in source.modalities]
    started = study_time(source)
    resource = present(
        resourceType="ImagingStudy",
        meta={"profile": [IMR_STUDY]} if place and started and modalities else {},
        status="available",
        subject=subject.reference,
        started=started,
        modality=modalities,
        basedOn=[service_request(accession)] if accession else [],
        referrer=_referrer(source),
        endpoint=[place.reference] if place else [],
        numberOfSeries=len({one.series_instance_uid for one in source.instances}),
        numberOfInstances=len(source.instances),
        procedureCode=[concept(code) for code in procedures],
        reasonCode=_reasons(source),
        description=source.text("StudyDescription"),
        series=_series(source),
    )
    uid = {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{source.context.study_instance_uid}"}
    entry = lasting_entry(resource, uid)
    if accession:
        entry.resource["identifier"].append(accession)
    return entry


def side_of(header: Dataset | None) -> Code | None:
    """The side that an image itself names (Image Laterality, Laterality); never one that is guessed."""
    said = [clean.text(header, keyword) for keyword in ("ImageLaterality", "Laterality")] if header is not None else []
    return next((_SIDES[one] for one in said if one in _SIDES), None)


def modality(name: str) -> Json:
    """The defined terms of Modality are DCM codes themselves; what is no term becomes OT."""
    known = codes.MODALITIES.get(name, Code(name, "DCM", name) if name.isalnum() else codes.OTHER_MODALITY)
    return coding(known) or {}


def _referrer(source: SourceStudy) -> Json | None:
    family, given, middle, prefix, suffix = (source.text("ReferringPhysicianName").split("=")[0].split("^") + [""] * 5)[:5]
    name = " ".join(part.strip() for part in (prefix, given, middle, family, suffix) if part.strip())
    return {"type": "Practitioner", "display": name} if name else None


def _reasons(source: SourceStudy) -> list[Json]:
    texts = [clean.text(item, "ReasonForTheRequestedProcedure") for item in request_items(source)]
    return [{"text": text} for text in dict.fromkeys(texts) if text]


def _series(source: SourceStudy) -> list[Json]:
    """Series with their instance counts; one whose UID FHIR's id type cannot hold is counted but not listed."""
    members: dict[str, list[Instance]] = {}
    for one in source.instances:
        members.setdefault(one.series_instance_uid, []).append(one)
    firsts = source.first_of_series()
    listed = len(source.instances) <= LISTED_INSTANCES
    headers = {clean.text(header, "SOPInstanceUID"): header for header in source.context.headers} if listed else {}
    return [_one_series(uid, found, firsts.get(uid), headers) for uid, found in members.items() if _FHIR_ID.fullmatch(uid)]


def _one_series(uid: str, found: list[Instance], header: Dataset | None, headers: dict[str, Dataset]) -> Json:
    """``header``: the first of the series; ``headers``: all of the study by SOP Instance UID, empty where none is listed."""
    if header is None:
        return {"uid": uid, "modality": modality(found[0].modality), "numberOfInstances": len(found)}
    sides = {side_of(headers.get(one.sop_instance_uid)) for one in found} if headers else {_series_side(header)}
    regions = [REGION_CODES[region] for region in sorted(regions_of(header)) if region in REGION_CODES]
    side = next(iter(sides)) if len(sides) == 1 else None
    return present(
        uid=uid,
        number=_number(header, "SeriesNumber"),
        modality=modality(found[0].modality),
        description=clean.text(header, "SeriesDescription"),
        numberOfInstances=len(found),
        bodySite=coding(regions[0]) if len(regions) == 1 else None,
        laterality=coding(side) if side else None,
        started=date_time(clean.text(header, "SeriesDate"), clean.text(header, "SeriesTime"), zone_of(header)),
        instance=[_instance(one, headers.get(one.sop_instance_uid)) for one in found if one.legal and headers],
    )


def _series_side(header: Dataset) -> Code | None:
    """Of a series whose images are not looked at one by one: only what holds for all of them, not Image Laterality."""
    return _SIDES.get(clean.text(header, "Laterality"))


def _instance(one: Instance, header: Dataset | None) -> Json:
    return present(
        uid=one.sop_instance_uid,
        sopClass={"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{one.sop_class_uid}"},
        number=_number(header, "InstanceNumber") if header is not None else None,
    )


def _number(header: Dataset, keyword: str) -> int | None:
    """An IS as FHIR's unsignedInt (0 to 2147483647)."""
    digits = clean.text(header, keyword)
    return int(digits) if digits and 0 <= int(digits) < 2**31 else None
