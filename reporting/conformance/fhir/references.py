"""Where references lead: form, presence and type of what they name (R4 2.3, 2.36.4); full URLs; identifiers that are UIDs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from reporting.conformance.fhir.definitions import Definitions
from reporting.conformance.fhir.formats import is_oid, is_uuid
from reporting.conformance.fhir.walk import Found, Where, place
from reporting.context import Fault

Json = dict[str, Any]

DICOM_UIDS: Final = "urn:dicom:uid"
_REFERENCES: Final = "FHIR R4 2.3 References"
_ENTRY: Final = "FHIR R4 2.36.4 Bundle.entry.fullUrl"
_URIS: Final = "urn:ietf:rfc:3986"
_MAX_UID: Final = 64  # PS3.5 section 9
_LOCAL: Final = re.compile(r"(?P<type>[A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?")
_SEARCH: Final = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?\S+=\S*")
_ABSOLUTE: Final = re.compile(r"[a-z][a-z0-9+.\-]*:\S+")
_REST: Final = re.compile(r"https?://\S+/(?P<type>[A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?")


@dataclass(frozen=True, slots=True)
class Index:
    """What a Bundle holds. ``types``: full URL, or type and id, → type; ``names``: every resource type of this release."""

    types: dict[str, str]
    names: frozenset[str]

    @classmethod
    def of(cls, value: Json, definitions: Definitions) -> Index:
        types: dict[str, str] = {}
        for entry in entries_of(value):
            resource = entry.get("resource")
            kind = resource.get("resourceType") if isinstance(resource, dict) else None
            if isinstance(kind, str) and isinstance(resource, dict):
                for url in (entry.get("fullUrl"), f"{kind}/{resource.get('id')}"):
                    if isinstance(url, str):
                        types.setdefault(url, kind)
        return cls(types, definitions.resources | definitions.others)


def entries_of(value: Json) -> list[Json]:
    """The entries of a Bundle that are objects; none of anything else."""
    entries = value.get("entry") if value.get("resourceType") == "Bundle" else None
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def reference_faults(found: Found, index: Index, *, own: bool = False) -> Iterator[Fault]:
    """One Reference: whether it says anything, can be followed, and leads to what its place and its own type allow.

    ``own``: our transactions hold all that they refer to, but what they name by its identifier.
    """
    value, where = found.value, found.where
    reference, said = value.get("reference"), value.get("type")
    if not {"reference", "identifier", "display", "extension", "_reference"} & value.keys():
        yield _fault("reference-empty", where, "a reference that names nothing", f"{_REFERENCES} Reference")
    led: str | None = None
    if isinstance(reference, str) and reference:
        led, wrong = _led(reference, found.holder, index)
        if wrong:
            yield _fault(wrong[0], where, wrong[1], _REFERENCES)
        elif own and reference not in index.types and reference[0] != "#":
            yield _fault("dangling", where, "refers to what is not in the Bundle", _REFERENCES)
    if isinstance(said, str) and (said not in index.names or (led and said != led)):
        yield _fault("reference-type", where, "its type is not that of what it refers to", f"{_REFERENCES} Reference.type")
    target = led or (said if isinstance(said, str) else None)
    if target and found.targets is not None and target not in found.targets:
        allowed = ", ".join(sorted(found.targets))
        yield _fault("reference-target", where, f"may refer to {allowed} only", f"{_REFERENCES} targetProfile")


def _led(reference: str, holder: Json, index: Index) -> tuple[str | None, tuple[str, str] | None]:
    """The type of what is referred to, where it can be told, and what is wrong: rule and words."""
    if reference.startswith("#"):
        return _contained(reference[1:], holder)
    if reference.startswith(("urn:uuid:", "urn:oid:")):
        return _by_urn(reference, index)
    match = _LOCAL.fullmatch(reference) or _SEARCH.fullmatch(reference)
    if match is not None:
        known = index.types.get(reference, match["type"])
        return (known, None) if known in index.names else (None, ("reference-form", "names no resource type of FHIR R4"))
    if _ABSOLUTE.fullmatch(reference):
        return _by_url(reference, index), None
    return None, ("reference-form", "is no URL, no urn:, no Type/id and no #id")


def _by_url(reference: str, index: Index) -> str | None:
    """An absolute URL need not be a FHIR server's."""
    match = _REST.fullmatch(reference)
    known = index.types.get(reference, match["type"] if match else "")
    return known if known in index.names else None


def _contained(name: str, holder: Json) -> tuple[str | None, tuple[str, str] | None]:
    """ref-1 says whether it is there; an empty name is what contains it."""
    contained = holder.get("contained")
    below = contained if isinstance(contained, list) else []
    kinds = [one.get("resourceType") for one in below if isinstance(one, dict) and one.get("id") == name]
    return (kinds[0] if kinds and isinstance(kinds[0], str) else None), None


def _by_urn(reference: str, index: Index) -> tuple[str | None, tuple[str, str] | None]:
    if not (is_uuid(reference) or is_oid(reference)):
        return None, ("reference-form", "is no urn:uuid in lower case and no urn:oid")
    if reference not in index.types:
        return None, ("dangling", "refers to what is not in the Bundle")
    return index.types[reference], None


def entry_faults(bundle: Json) -> Iterator[Fault]:
    """Full URLs, each one once and of its resource; requests that fit their resources (R4 2.36.4, 3.1.0.11)."""
    entries = entries_of(bundle)
    counts = Counter(_versioned_url(one) for one in entries)
    versioned = bundle.get("type") == "history"
    for number, entry in enumerate(entries):
        where: Where = ((None, "Bundle"), "entry", number)
        resource, url = entry.get("resource"), entry.get("fullUrl")
        if isinstance(url, str):
            if counts[_versioned_url(entry)] > 1 and not versioned:
                yield _fault("duplicate-full-url", where, "another entry has the same full URL", f"{_ENTRY}, bdl-7")
            yield from _full_url_faults(url, resource, where)
        if isinstance(resource, dict) and isinstance(entry.get("request"), dict):
            yield from _request_faults(entry["request"], resource, where)


def _versioned_url(entry: Json) -> str:
    """The full URL and, since a Bundle may hold several versions of a resource, the version (bdl-7)."""
    resource = entry.get("resource")
    meta = resource.get("meta") if isinstance(resource, dict) else None
    return f"{entry.get('fullUrl')} {meta.get('versionId') if isinstance(meta, dict) else None}"


def _full_url_faults(url: str, resource: Any, where: Where) -> Iterator[Fault]:
    name = resource.get("id") if isinstance(resource, dict) else None
    if not _ABSOLUTE.fullmatch(url):
        yield _fault("full-url", where, "the full URL is not absolute", _ENTRY)
    elif isinstance(name, str) and not url.startswith("urn:") and not url.endswith(f"/{name}"):
        yield _fault("full-url", where, "the full URL is another resource's", _ENTRY)


def _request_faults(request: Json, resource: Json, where: Where) -> Iterator[Fault]:
    method, url, kind = request.get("method"), request.get("url"), resource.get("resourceType")
    if not isinstance(url, str) or not isinstance(kind, str):
        return
    if method in ("GET", "HEAD", "DELETE"):
        yield _fault("request-resource", where, "a request that takes no resource has one", "FHIR R4 3.1.0.11 transaction")
    elif method == "POST" and url.rsplit("/", 1)[-1].startswith(("_", "$")):
        return  # a search or an operation
    elif url.split("?")[0].split("/")[0] != kind and not _ABSOLUTE.fullmatch(url):
        yield _fault("request-url", where, "the request is for another type of resource", "FHIR R4 3.1.0.11 transaction")


def identifier_faults(found: Found, *, copied: bool = False) -> Iterator[Fault]:
    """Identifiers that are URIs or DICOM UIDs (R4 2.24.0.7). ``copied``: a UID that somebody else made may be illegal."""
    system, value = found.value.get("system"), found.value.get("value")
    if isinstance(system, str) and system.startswith("urn:oid:") and not is_oid(system):
        yield _fault("identifier-system", found.where, "its system is no OID", "FHIR R4 2.24 oid")
    if not isinstance(value, str):
        return
    if system == DICOM_UIDS:
        uid = value.removeprefix("urn:oid:")
        legal = copied or (is_oid(value) and len(uid) <= _MAX_UID)
        if uid == value or not uid or not legal:
            text = "a DICOM UID stands as urn:oid: and a legal UID"
            yield _fault("identifier-uid", found.where, text, "FHIR R4 ImagingStudy 11.1.4, PS3.5 9")
    elif system == _URIS and not _ABSOLUTE.fullmatch(value):
        yield _fault("identifier-system", found.where, "its value is no URI", "FHIR R4 2.24.0.7 Identifier")


def _fault(rule: str, where: Where | None, text: str, clause: str) -> Fault:
    return Fault(rule, clause, f"{place(where)}: {text}")
