"""The small forms that FHIR R4 resources are made of: codings, identifiers, references, times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

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

    ``uuid`` is derived, and serves as its id where the site writes by id; ``search`` finds the one that an earlier posting
    made, where the site writes by search.
    """

    uuid: str
    resource: Json
    search: str

    @property
    def reference(self) -> Json:
        return {"reference": f"urn:uuid:{self.uuid}", "type": self.resource["resourceType"]}

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
    return Entry(uuid, {"resourceType": kind, "identifier": [identifier], **resource}, identifier_search(identifier))


def result_entry(key: ReadingKey, resource: Json, *what: str) -> Entry:
    """A result of this reading, found by the identifier that its key gives it."""
    kind = resource["resourceType"]
    own = {"system": SYSTEM, "value": key.uid("fhir", kind, *what)}
    return Entry(key.uuid("fhir", kind, *what), {"resourceType": kind, "identifier": [own], **resource}, identifier_search(own))


def identifier_search(identifier: Json) -> str:
    return f"identifier={token(identifier['system'], identifier['value'])}"


def token(system: str, value: str) -> str:
    """A token search value: FHIR's own escapes (R4 3.1.1.3) inside, URL escapes outside."""
    escaped = value.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|").replace("$", "\\$")
    return f"{quote(system, safe='')}|{quote(escaped, safe='')}"


def coding(code: Code) -> Json | None:
    """The code as a Coding, or None where FHIR has no URI for its scheme (a Coding without one means nothing)."""
    scheme = codes.SCHEMES.get(code.scheme)
    return {"system": scheme.uri, "code": code.value, "display": code.meaning} if scheme else None


def concept(code: Code) -> Json:
    found = coding(code)
    return {"coding": [found], "text": code.meaning} if found else {"text": code.meaning}


def percent(fraction: float) -> Json:
    """A Quantity in percent of ``fraction`` (0..1), two decimals."""
    return {"value": round(100 * fraction, 2), "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}


def terminology(system: str, code: str, display: str) -> Json:
    """A CodeableConcept from HL7's own terminology."""
    return {"coding": [{"system": f"{_TERMINOLOGY}/{system}", "code": code, "display": display}]}


def instant(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds")


def asserted(phantom: bool, profile: str = "", tag: Json | None = None) -> Json:
    """``meta`` of a result: asserted by AI; marked as test data where a phantom model made it."""
    meta: Json = {"profile": [profile]} if profile else {}
    meta["security"] = [AIAST, TEST_DATA] if phantom else [AIAST]
    return {**meta, "tag": [tag]} if tag else meta


def present(**values: Any) -> Json:
    """Only what has a value: FHIR forbids empty elements (R4 2.6.1)."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}
