"""A Bundle fitted to what a FHIR server takes: which entries, written how; what is left out is named, never silent.

Only the DiagnosticReport is indispensable: it holds the whole result as text and page. What a server does not take becomes a
reference by identifier (R4 2.3.0.2, logical reference), so that nothing said of it is lost; findings that it does not take
are left out of the lists that name them, since an unwritten Observation can be found nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from dicom_node.errors import PeerRefused
from dicom_node.remote.fhir_capabilities import Capabilities, TypeRules

Json = dict[str, Any]

REPORT: Final = "DiagnosticReport"
KINDS: Final = (
    "Patient",
    "ImagingStudy",
    "Organization",
    "Device",
    "Observation",
    REPORT,
    "Provenance",
)  # what our Bundles hold
R5_MARK: Final = "http://hl7.org/fhir/StructureDefinition/Bundle|5.0.0"  # meta.profile of our R5 Bundles
_LISTED: Final = frozenset({"Observation"})
_ONE_BY_ONE: Final = "the server takes no transaction: resources are written one after the other"
_LEFT_OUT: Final = "the server does not take these, left out"
_NAMED: Final = "the server does not take these, only named by their identifiers"


@dataclass(frozen=True, slots=True)
class Write:
    """One entry: written under our id where ``search`` is empty, else created unless ``search`` finds it.

    ``find``: ask for it by search first, because the server does not promise to do that itself. ``make``: whether it may be
    made where the search finds none; if not, it must be there already.
    """

    url: str
    resource: Json
    search: str = ""
    find: bool = False
    make: bool = True

    @property
    def kind(self) -> str:
        return str(self.resource["resourceType"])


@dataclass(frozen=True, slots=True)
class Plan:
    """``writes``: in the order in which they refer to each other. ``transaction``: all at once, else one after the other.

    ``notes``: what an operator should know, a sentence each. ``as_it_is``: the Bundle can be sent unchanged.
    """

    writes: tuple[Write, ...]
    transaction: bool
    notes: tuple[str, ...]
    as_it_is: bool


def release_of(bundle: Json) -> str:
    """``R5`` where the Bundle says so, else ``R4``."""
    return "R5" if R5_MARK in (bundle.get("meta") or {}).get("profile", ()) else "R4"


def plan(bundle: Json, offered: Capabilities) -> Plan:
    """How to write ``bundle`` there. Raises PeerRefused, naming what is missing, where it cannot be written at all."""
    contradictions(offered, release_of(bundle))
    wished = [_write(entry) for entry in bundle["entry"]]
    fitted = [(write, *_fit(write, offered.rules(write.kind))) for write in wished]
    kept = tuple(found for _, found, _ in fitted if found)
    dropped = [write for write, found, _ in fitted if not found]
    if any(write.kind == REPORT for write in dropped):
        raise PeerRefused(f"the server takes no {REPORT} (its CapabilityStatement): nothing of the result can be written there")
    notes = _notes(offered, [(write.kind, why) for write, _, why in fitted])
    kept = tuple(replace(write, resource=without(write.resource, dropped)) for write in kept)
    unchanged = offered.transaction and not dropped and kept == tuple(wished)
    return Plan(kept, offered.transaction, notes, unchanged)


def contradictions(offered: Capabilities, release: str) -> None:
    """Raise PeerRefused where the server says that it does not speak ``release`` (R4 or R5), or no JSON."""
    if offered.release and offered.release != release:
        advice = f"set documents.fhir_version: {offered.release}" if offered.release in ("R4", "R5") else "it needs R4 or R5"
        raise PeerRefused(f"the server speaks FHIR {offered.fhir_version}, the document is {release}: {advice}, and read again")
    if offered.json is False:
        raise PeerRefused("the server takes no JSON (its CapabilityStatement names other formats only)")


def shortcomings(offered: Capabilities, kinds: Iterable[str], write: str) -> tuple[str, ...]:
    """What will be done otherwise than the settings wish (``write``: by-id or by-search), a sentence each."""
    search = "identifier=x" if write == "by-search" else ""
    fitted = ((kind, _fit(Write("urn:uuid:x", {"resourceType": kind}, search), offered.rules(kind))) for kind in kinds)
    return _notes(offered, [(kind, why) for kind, (_, why) in fitted])


def entry_of(write: Write) -> Json:
    """The entry of a transaction that does this write."""
    kind, resource = write.kind, write.resource
    if not write.search:
        own = write.url.removeprefix("urn:uuid:")
        named = {"resourceType": kind, **resource, "id": own}
        return {"fullUrl": write.url, "resource": named, "request": {"method": "PUT", "url": f"{kind}/{own}"}}
    request = {"method": "POST", "url": kind, "ifNoneExist": write.search}
    return {"fullUrl": write.url, "resource": resource, "request": request}


def without(resource: Json, dropped: Iterable[Write]) -> Json:
    """``resource`` with references to what is not written made logical, or left out where they stand in a list of findings."""
    gone = {write.url: write for write in dropped}
    found = _without(resource, gone) if gone else resource
    return found if isinstance(found, dict) else resource


def referring(resource: Json, known: dict[str, str]) -> Json:
    """``resource`` with each ``urn:uuid`` reference replaced by the address under which the server holds the target."""
    found = _referring(resource, known)
    return found if isinstance(found, dict) else resource


def _notes(offered: Capabilities, differences: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """A sentence for each thing done otherwise than the settings wish, with the resource types that it concerns."""
    concerned: dict[str, dict[str, None]] = {} if offered.transaction else {_ONE_BY_ONE: {}}
    for kind, why in differences:
        if why:
            concerned.setdefault(why, {})[kind] = None
    return tuple(f"{why} ({', '.join(kinds)})" if kinds else why for why, kinds in concerned.items())


def _write(entry: Json) -> Write:
    request = entry["request"]
    resource = {name: value for name, value in entry["resource"].items() if name != "id"}
    return Write(entry["fullUrl"], resource, str(request.get("ifNoneExist", "")))


def _fit(write: Write, rules: TypeRules | None) -> tuple[Write | None, str]:
    """The write as the server allows it, None where it does not, and what differs from the settings."""
    if rules is None:
        return None, _LEFT_OUT if write.kind in _LISTED else _NAMED
    if not write.search:
        if rules.names:
            return write, ""
        write = replace(write, search=search_for(write.resource))
        return _by_search(write, rules, "the server lets nobody name ids: written by search instead of by id")
    if not rules.creates and rules.names:
        return replace(write, search=""), "the server gives out no ids of its own: written by id instead of by search"
    return _by_search(write, rules, "")


def _by_search(write: Write, rules: TypeRules, note: str) -> tuple[Write | None, str]:
    findable = rules.finds(write.search.partition("=")[0])
    if rules.creates:
        # Only a stated promise counts: a server that ignores ifNoneExist doubles everything on a resend
        promised = rules.conditional_create is True or (rules.conditional_create is None and rules.interactions is None)
        return replace(write, find=not promised and findable), note
    if findable and write.kind not in _LISTED and write.kind != REPORT:
        return replace(write, find=True, make=False), "the server does not create these: the ones it has are looked up"
    return None, _LEFT_OUT if write.kind in _LISTED else _NAMED


def search_for(resource: Json) -> str:
    """The search that finds a resource of ours again: by its identifier, or by its tag where it has none."""
    held = next(iter(resource.get("identifier", ())), None)
    if held:
        return f"identifier={_token(held.get('system', ''), held['value'])}"
    tag = next(iter((resource.get("meta") or {}).get("tag", ())), None)
    return f"_tag={_token(tag['system'], tag['code'])}" if tag else ""


def same(found: Json, own: Json) -> bool:
    """Whether a resource that a server found is the one of ours: of its type, with its identifier or tag."""
    if found.get("resourceType") != own["resourceType"]:
        return False
    held = next(iter(own.get("identifier", ())), None)
    if held:
        return any(
            isinstance(one, dict) and (one.get("system"), one.get("value")) == (held.get("system"), held["value"])
            for one in _list(found.get("identifier"))
        )
    tag: Json = next(iter((own.get("meta") or {}).get("tag", ())), {})
    meta = found.get("meta")
    tags = _list(meta.get("tag")) if isinstance(meta, dict) else []
    return any(isinstance(one, dict) and (one.get("system"), one.get("code")) == (tag["system"], tag["code"]) for one in tags)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _token(system: str, value: str) -> str:
    """A token search value: FHIR's own escapes (R4 3.1.1.3) inside, URL escapes outside."""
    for mark in "\\,|$":
        value = value.replace(mark, f"\\{mark}")
    return f"{quote(system, safe='')}|{quote(value, safe='')}"


def _without(value: Any, gone: dict[str, Write]) -> Any:
    if isinstance(value, list):
        return list(_items(value, gone))
    if not isinstance(value, dict):
        return value
    target = gone.get(value.get("reference", ""))
    if target is None:
        kept = {name: _without(below, gone) for name, below in value.items()}
        return {name: below for name, below in kept.items() if below not in ([], {})}
    return _logical(value, target)


def _items(value: list[Any], gone: dict[str, Write]) -> Iterator[Any]:
    for item in value:
        target = gone.get(item.get("reference", "")) if isinstance(item, dict) else None
        if target is None or target.kind not in _LISTED:
            yield _without(item, gone)


def _logical(reference: Json, target: Write) -> Json:
    held = next(iter(target.resource.get("identifier", ())), None)
    named = {name: below for name, below in reference.items() if name != "reference"}
    return {**named, "identifier": held} if held else {**named, "display": f"{target.kind} not held by this server"}


def _referring(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_referring(item, known) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _referring(below, known) for name, below in value.items()}
    if "reference" in found:
        found["reference"] = known.get(found["reference"], found["reference"])
    return found
