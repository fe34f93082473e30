"""What we promise of our own transactions beyond FHIR: IHE RAD IMR (RAD-141), AI Transparency on FHIR, and drafts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from reporting.conformance.fhir.bundle import Entry, OwnBundle, items
from reporting.context import Fault

IMR_REPORT: Final = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-diagnosticreport"
IMR_BUNDLE: Final = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-store-multimedia-report-bundle"
_IMR: Final = "IHE RAD IMR RAD-141"
_AI: Final = "AI Transparency on FHIR"
_DRAFT: Final = "WetRead conformance statement: drafts"
_AIAST: Final = ("http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "AIAST")
_ASSERTED: Final = ("DiagnosticReport", "Observation", "Provenance")
# Never what a person has to say: final, amended, corrected, appended (R4 valueset-diagnostic-report-status)
_STATES: Final = {
    "DiagnosticReport": frozenset({"registered", "partial", "preliminary"}),
    "Observation": frozenset({"registered", "preliminary"}),
}


def promise_faults(bundle: OwnBundle) -> Iterator[Fault]:
    """Each promise that the Bundle breaks; of what FHIR itself forbids, the walk tells."""
    yield from _transaction_faults(bundle)
    for entry in bundle.entries:
        yield from _write_faults(entry)
        if "contained" in entry.resource:
            yield Fault("contained", f"{_IMR}: no contained resources", f"{entry.kind}: contains resources")
        if entry.kind in _ASSERTED and _AIAST not in _labels(entry):
            yield Fault("ai-asserted", f"{_AI}: meta.security AIAST", f"{entry.kind}: is not marked as asserted by an AI")
        if entry.kind in _STATES and entry.resource.get("status") not in _STATES[entry.kind]:
            yield Fault("draft-status", _DRAFT, f"{entry.kind}: a status that only a person can give")
    yield from _study_faults(bundle)
    yield from _subject_faults(bundle)
    yield from _provenance_faults(bundle)


def _transaction_faults(bundle: OwnBundle) -> Iterator[Fault]:
    if bundle.value.get("type") != "transaction":
        yield Fault("transaction", f"{_IMR}: transaction Bundle", "Bundle.type: is not transaction")
    identifier = bundle.value.get("identifier")
    value = identifier.get("value") if isinstance(identifier, dict) else None
    if not isinstance(value, str) or not value.startswith("urn:oid:"):
        yield Fault("transaction", "FHIR R4 2.36.4 Bundle.identifier", "Bundle.identifier: no urn:oid of this Bundle")
    if not bundle.r5 and IMR_BUNDLE not in bundle.profiles:
        yield Fault("imr-profile", f"{_IMR}: Bundle.meta.profile", "Bundle.meta.profile: is not that of an IMR report's Bundle")
    if any(not entry.url.startswith("urn:uuid:") for entry in bundle.entries):
        yield Fault("full-url", "FHIR R4 3.1.0.11.2 transaction", "Bundle.entry: without a urn:uuid as its full URL")


def _write_faults(entry: Entry) -> Iterator[Fault]:
    """A resend makes nothing new: an update by id or by search, or a conditional create (R4 3.1.0.7.1, 3.1.0.8.1)."""
    method, url = entry.request.get("method"), entry.request.get("url")
    by_id = (method, url) == ("PUT", f"{entry.kind}/{entry.resource.get('id')}")
    by_search = method == "PUT" and isinstance(url, str) and url.startswith(f"{entry.kind}?") and "=" in url
    created_once = (method, url) == ("POST", entry.kind) and bool(entry.request.get("ifNoneExist"))
    if not (by_id or by_search or created_once):
        text = f"{entry.kind}: would be made again when the Bundle is sent again"
        yield Fault("conditional-write", "FHIR R4 3.1.0.8.1 conditional create", text)


def _labels(entry: Entry) -> set[tuple[object, object]]:
    meta = entry.resource.get("meta")
    return {(one.get("system"), one.get("code")) for one in items(meta, "security")}


def _study_faults(bundle: OwnBundle) -> Iterator[Fault]:
    for study in bundle.of("ImagingStudy"):
        uids = [one for one in items(study.resource, "identifier") if one.get("system") == "urn:dicom:uid"]
        if len(uids) != 1:
            yield Fault("study-identifier", f"{_IMR}: ImagingStudy.identifier", "ImagingStudy: needs one Study Instance UID")
    for report in bundle.of("DiagnosticReport"):
        kinds = [bundle.kind_of(one) for one in items(report.resource, bundle.study_element)]
        if "ImagingStudy" not in kinds:
            text = f"DiagnosticReport.{bundle.study_element}: the study is not named"
            yield Fault("report-study", f"{_IMR}: DiagnosticReport.imagingStudy", text)


def _subject_faults(bundle: OwnBundle) -> Iterator[Fault]:
    patients = {entry.url for entry in bundle.of("Patient")}
    held = (*bundle.of("Observation"), *bundle.of("DiagnosticReport"), *bundle.of("ImagingStudy"))
    subjects = {_reference(entry.resource.get("subject")) for entry in held}
    if len(patients) != 1 or subjects != patients:
        yield Fault("one-subject", f"{_IMR}: one patient", "Bundle: report, results and study are not of its one Patient")


def _provenance_faults(bundle: OwnBundle) -> Iterator[Fault]:
    records = bundle.of("Provenance")
    if len(records) != 1:
        yield Fault("provenance", f"{_AI}: Provenance", "Bundle: needs one Provenance")
        return
    record = records[0].resource
    results = {entry.url for entry in (*bundle.of("DiagnosticReport"), *bundle.of("Observation"))}
    if {_reference(one) for one in items(record, "target")} != results:
        text = "Provenance.target: is not the report and all its observations"
        yield Fault("provenance-targets", f"{_AI}: Provenance.target", text)
    authors = [one.get("who") for one in items(record, "agent") if _is_author(one)]
    answered = any("dataAbsentReason" not in entry.resource for entry in bundle.of("Observation"))
    if (answered and not authors) or any(bundle.kind_of(who) != "Device" for who in authors):
        yield Fault("provenance-author", f"{_AI}: Provenance.agent", "Provenance.agent: the models' Devices are its authors")
    elif not _digests(bundle, authors) <= _cards(record):
        text = "Provenance.entity: the card of a model that is an author is missing"
        yield Fault("provenance-entities", f"{_AI}: Provenance.entity", text)


def _is_author(agent: Any) -> bool:
    kind = agent.get("type")
    return any(one.get("code") == "author" for one in items(kind, "coding"))


def _digests(bundle: OwnBundle, authors: Iterable[Any]) -> set[str]:
    """The SHA-256 of the weights of each author, as its Device states it; an author that states none has no card."""
    found: set[str] = set()
    for who in authors:
        device = bundle.named(who)
        versions = items(device, "version")
        stated = [one.get("value") for one in versions if _text(one.get("type")) == "sha256"]
        found |= {f"sha256:{one}" for one in stated or ["not stated"]}
    return found


def _cards(record: dict[str, Any]) -> set[object]:
    named = [one.get("what") for one in items(record, "entity")]
    identifiers = [one.get("identifier") for one in named if isinstance(one, dict)]
    values = (one.get("value") for one in identifiers if isinstance(one, dict))
    return {value for value in values if isinstance(value, str)}


def _text(concept: Any) -> object:
    return concept.get("text") if isinstance(concept, dict) else None


def _reference(value: Any) -> str:
    found = value.get("reference") if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
