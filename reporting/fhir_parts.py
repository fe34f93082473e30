"""The small forms that FHIR R4 resources are made of: codings, identifiers, references, times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, tzinfo
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from inference.reading import Code
from reporting import codes
from reporting.options import FhirWrite
from reporting.uids import ReadingKey, derive_uid, derive_uuid

Json = dict[str, Any]

# The namespace of identifiers that this software gives out
SYSTEM: Final = f"urn:oid:{derive_uid('identifier system', 'wetread')}"
DICOM_UID_SYSTEM: Final = "urn:dicom:uid"
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem"
AIAST: Final = {"system": f"{_TERMINOLOGY}/v3-ObservationValue", "code": "AIAST", "display": "Artificial Intelligence asserted"}
TEST_DATA: Final = {"system": f"{_TERMINOLOGY}/v3-ActReason", "code": "HTEST", "display": "test health data"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource in a transaction, made once however often it is posted.

    ``uuid`` is derived, and serves as its id where the site writes by id. Where the site writes by search, the one that an
    earlier posting made is found by its first identifier, or by its tag where it has none.
    """

    uuid: str
    resource: Json

    @property
    def reference(self) -> Json:
        return {"reference": f"urn:uuid:{self.uuid}", "type": self.resource["resourceType"]}

    @property
    def search(self) -> str:
        held = self.resource.get("identifier")
        if held:
            return f"identifier={token(held[0]['system'], held[0]['value'])}"
        tag = self.resource["meta"]["tag"][0]
        return f"_tag={token(tag['system'], tag['code'])}"

    def json(self, write: FhirWrite) -> Json:
        kind, url = self.resource["resourceType"], f"urn:uuid:{self.uuid}"
        if write == "by-id":
            named = {"resourceType": kind, "id": self.uuid, **self.resource}
            return {"fullUrl": url, "resource": named, "request": {"method": "PUT", "url": f"{kind}/{self.uuid}"}}
        request = {"method": "POST", "url": kind, "ifNoneExist": self.search}
        return {"fullUrl": url, "resource": self.resource, "request": request}


def lasting_entry(resource: Json, identifier: Json) -> Entry:
    """A resource that outlives one reading (patient, study, device, organisation), found by its identifier."""
    kind = resource["resourceType"]
    uuid = str(derive_uuid("fhir", kind, identifier["system"], identifier["value"]))
    return Entry(uuid, {"resourceType": kind, "identifier": [identifier], **resource})


def result_entry(bundle: str, resource: Json, *what: str) -> Entry:
    """A result of the reading whose Bundle has the UID ``bundle``, found by an identifier that is derived from it."""
    kind = resource["resourceType"]
    uuid = derive_uuid("fhir result", bundle, kind, *what)
    return Entry(str(uuid), {"resourceType": kind, "identifier": [_named(uuid)], **resource})


def bundle_uid(key: ReadingKey) -> str:
    """The UID that names the Bundle of a reading."""
    return key.uid("fhir", "Bundle")


def result_identifier(bundle: str, kind: str, *what: str) -> Json:
    """What names a result of the reading whose Bundle has this UID: a later revision can name it too."""
    return _named(derive_uuid("fhir result", bundle, kind, *what))


def _named(uuid: UUID) -> Json:
    return {"system": SYSTEM, "value": f"2.25.{uuid.int}"}


def token(system: str, value: str) -> str:
    """A token search value: FHIR's own escapes (R4 3.1.1.3) inside, URL escapes outside."""
    escaped = value.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|").replace("$", "\\$")
    return f"{quote(system, safe='')}|{quote(escaped, safe='')}"


def coding(code: Code) -> Json | None:
    """The code as a Coding, or None where FHIR has no URI for its scheme (a Coding without one means nothing)."""
    scheme = codes.SCHEMES.get(code.scheme)
    return {"system": scheme.uri, "code": code.value, "display": code.meaning} if scheme else None


def concept(code: Code, text: str = "") -> Json:
    """``text``: the concept in the document's language; the coding keeps the display of its scheme."""
    found, said = coding(code), text or code.meaning
    return {"coding": [found], "text": said} if found else {"text": said}


def percent(fraction: float) -> Json:
    """A Quantity in percent of ``fraction`` (0..1), two decimals."""
    return {"value": round(100 * fraction, 2), "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}


def terminology(system: str, code: str, display: str) -> Json:
    """A CodeableConcept from HL7's own terminology."""
    return {"coding": [{"system": f"{_TERMINOLOGY}/{system}", "code": code, "display": display}]}


def instant(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds")


def date_time(day: str, clock: str, zone: tzinfo | None) -> str:
    """A dateTime of a DA and a TM (both clean). FHIR takes no time without a zone, so that without one it is a date only."""
    if not day:
        return ""
    if zone is None or len(clock) < len("hhmm"):
        return date.fromisoformat(day).isoformat()
    fraction = clock[7:].ljust(6, "0") if "." in clock else ""
    hours, minutes, seconds = int(clock[:2]), int(clock[2:4]), int(clock[4:6] or 0)
    when = datetime.combine(date.fromisoformat(day), time(hours, minutes, seconds, int(fraction or 0), zone))
    return when.isoformat(timespec="milliseconds" if fraction else "seconds")


def asserted(phantom: bool, profile: str = "", tag: Json | None = None) -> Json:
    """``meta`` of a result: asserted by AI; marked as test data where a phantom model made it."""
    meta: Json = {"profile": [profile]} if profile else {}
    meta["security"] = [AIAST, TEST_DATA] if phantom else [AIAST]
    return {**meta, "tag": [tag]} if tag else meta


def logical(kind: str, identifier: Json, display: str = "") -> Json:
    """A reference by identifier to what the record may hold under an id of its own (R4 2.3.0.2)."""
    return present(type=kind, identifier=identifier, display=display)


def present(**values: Any) -> Json:
    """Only what has a value: FHIR forbids empty elements (R4 2.6.1)."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}
