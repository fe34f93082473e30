"""Faults planted into our FHIR Bundle: a name, what is done to it, and the rule of the gate that must say so."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

from reporting.context import Document, DocumentKind
from reporting.options import DocumentOptions
from tests.reporting.fhir_changes import (
    Change,
    answer_repeated,
    author_is_nobody,
    author_is_the_hospital,
    below,
    contained,
    device_of,
    entry,
    number_as_text,
    other_page,
    patient_as_target,
    posted_again,
    put,
    res,
    turned,
    two_reports,
    unused_contained,
    without,
)
from tests.reporting.samples import OPTIONS, by_kind, context, priors, reading

KIND = DocumentKind.FHIR_BUNDLE
BUNDLE_ONLY = replace(OPTIONS, kinds=frozenset((KIND,)))


def sound(options: DocumentOptions = BUNDLE_ONLY, *, compared: bool = False) -> Document:
    """Our Bundle as it is: without a fault. ``compared``: with two earlier studies."""
    return by_kind(reading(), context(priors=priors() if compared else ()), options)[KIND]


@cache
def _sound(*, compared: bool) -> Document:
    return sound(compared=compared)


@dataclass(frozen=True)
class Planted:
    """``change`` is done to the parsed Bundle; ``rule``: what the gate calls it. ``compared``: as of ``sound``."""

    change: Change
    rule: str
    kind: DocumentKind = KIND
    compared: bool = False


def sound_of(fault: Planted) -> Document:
    """What the fault is planted into."""
    return _sound(compared=fault.compared)


def plant(fault: Planted) -> Document:
    """The document with the fault in it."""
    bundle = json.loads(sound_of(fault).content)
    fault.change(bundle)
    return replace(sound_of(fault), content=json.dumps(bundle, ensure_ascii=False).encode())


PLANTED: dict[str, Planted] = {
    # Structure (R4 JSON representation, cardinality)
    "unknown element": Planted(put("Patient", colour="red"), "unknown-element"),
    "misspelt element": Planted(put("DiagnosticReport", conclusionCodes=[{"text": "x"}]), "unknown-element"),
    "element of one server's own": Planted(below("Observation", "meta", project="x"), "unknown-element"),
    "unknown element deep inside": Planted(below("Observation", "code", "coding", 0, colour="red"), "unknown-element"),
    "R5 element in an R4 Bundle": Planted(
        lambda b: res(b, "DiagnosticReport").update(study=res(b, "DiagnosticReport").pop("imagingStudy")), "unknown-element"
    ),
    "report without status": Planted(put("DiagnosticReport", status=None), "cardinality-min"),
    "observation without code": Planted(put("Observation", code=None), "cardinality-min"),
    "study without subject": Planted(put("ImagingStudy", subject=None), "cardinality-min"),
    "provenance without agents": Planted(put("Provenance", agent=None), "cardinality-min"),
    "provenance without time": Planted(put("Provenance", recorded=None), "cardinality-min"),
    "device version without value": Planted(below("Device", "version", 0, value=None), "cardinality-min"),
    "entity without role": Planted(below("Provenance", "entity", 0, role=None), "cardinality-min"),
    "one for a list": Planted(
        lambda b: res(b, "DiagnosticReport").update(result=res(b, "DiagnosticReport")["result"][0]), "cardinality-max"
    ),
    "list for one": Planted(
        lambda b: res(b, "Observation").update(subject=[res(b, "Observation")["subject"]]), "cardinality-max"
    ),
    "two answers": Planted(put("Observation", valueString="Present"), "choice"),
    "two times": Planted(put("Observation", effectiveInstant="2026-03-04T05:06:07Z"), "choice"),
    "value of no allowed type": Planted(
        lambda b: res(b, "Observation").update(valueDecimal=1.5, valueCodeableConcept=None), "unknown-element"
    ),
    "no resource type": Planted(lambda b: res(b, "Organization").pop("resourceType"), "resource-type"),
    "resource type of nothing": Planted(put("Organization", resourceType="Hospital"), "resource-type"),
    # Types and formats
    "text for a number": Planted(number_as_text, "json-type"),
    "text for an integer": Planted(put("ImagingStudy", numberOfSeries="1"), "json-type"),
    "number for a text": Planted(put("Organization", name=7), "json-type"),
    "fraction for an integer": Planted(put("ImagingStudy", numberOfInstances=1.5), "format"),
    "truth for a text": Planted(put("DiagnosticReport", conclusion=True), "json-type"),
    "text for a concept": Planted(put("Observation", code="Pneumothorax"), "json-type"),
    "negative size": Planted(below("DiagnosticReport", "presentedForm", 0, size=-1), "format"),
    "negative count": Planted(put("ImagingStudy", numberOfSeries=-1), "format"),
    "birth date that no calendar has": Planted(put("Patient", birthDate="1970-02-30"), "format"),
    "birth date in DICOM's form": Planted(put("Patient", birthDate="19700102"), "format"),
    "time without a zone": Planted(put("Observation", issued="2026-03-04T05:06:07"), "format"),
    "issued on a day, not at an instant": Planted(put("DiagnosticReport", issued="2026-03-04"), "format"),
    "base64 that is none": Planted(below("DiagnosticReport", "presentedForm", 0, data="PGh0bWw+*"), "format"),
    "base64 without its padding": Planted(below("DiagnosticReport", "presentedForm", 0, data="PGh0bWw"), "format"),
    "code with two blanks": Planted(below("Observation", "code", "coding", 0, code="36118008  x"), "format"),
    "system with a blank": Planted(below("Observation", "code", "coding", 0, system="http://snomed.info/ sct"), "format"),
    "id of 65 characters": Planted(put("Organization", id="x" * 65), "format"),
    "empty text": Planted(put("Organization", name=""), "empty"),
    "empty list": Planted(put("Observation", note=[]), "empty"),
    "empty object": Planted(put("Observation", bodySite={}), "empty"),
    "null": Planted(lambda b: res(b, "Observation").update(bodySite=json.loads("null")), "empty"),
    # Bindings
    "report of an unknown status": Planted(put("DiagnosticReport", status="draft"), "required-binding"),
    "observation of a report's status": Planted(put("Observation", status="partial"), "required-binding"),
    "study of an unknown status": Planted(put("ImagingStudy", status="complete"), "required-binding"),
    "gender in DICOM's form": Planted(put("Patient", gender="F"), "required-binding"),
    "identifier of an unknown use": Planted(below("Patient", "identifier", 0, use="main"), "required-binding"),
    "unknown method": Planted(lambda b: entry(b, "Patient")["request"].update(method="UPSERT"), "required-binding"),
    "unknown comparator": Planted(
        below("Observation", "component", 0, "valueQuantity", comparator="about"), "required-binding"
    ),
    "entity of an unknown role": Planted(below("Provenance", "entity", 0, role="model"), "required-binding"),
    "unknown type of Bundle": Planted(lambda b: b.update(type="post"), "required-binding"),
    # Invariants
    "answer and reason for none": Planted(put("Observation", dataAbsentReason={"text": "not done"}), "obs-6"),
    "component that repeats the question": Planted(answer_repeated, "obs-7"),
    "unit code without its system": Planted(below("Observation", "component", 0, "valueQuantity", system=None), "qty-3"),
    "page without its media type": Planted(below("DiagnosticReport", "presentedForm", 0, contentType=None), "att-1"),
    "organisation without a name": Planted(put("Organization", name=None, identifier=None), "org-1"),
    "organisation at home": Planted(put("Organization", address=[{"use": "home", "city": "Somewhere"}]), "org-2"),
    "contact without anything": Planted(put("Patient", contact=[{"gender": "female"}]), "pat-1"),
    "telephone without its kind": Planted(put("Patient", telecom=[{"value": "1"}]), "cpt-2"),
    "period that ends before it starts": Planted(
        put("Observation", effectivePeriod={"start": "2026-03-04", "end": "2026-03-01"}, effectiveDateTime=None), "per-1"
    ),
    "extension with value and extensions": Planted(
        below(
            "DiagnosticReport",
            "resultsInterpreter",
            0,
            "extension",
            0,
            extension=[{"url": "http://x.example", "valueCode": "x"}],
        ),
        "ext-1",
    ),
    "contained and referred to by nobody": Planted(unused_contained, "dom-3"),
    "contained within nothing": Planted(below("DiagnosticReport", "performer", 0, reference="#o"), "ref-1"),
    "transaction without requests": Planted(lambda b: entry(b, "Patient").pop("request"), "bdl-3"),
    "total of a transaction": Planted(lambda b: b.update(total=3), "bdl-1"),
    "search in a transaction": Planted(lambda b: entry(b, "Patient").update(search={"mode": "match"}), "bdl-2"),
    "full URL with a version": Planted(
        lambda b: entry(b, "Patient").update(fullUrl="http://x.example/Patient/1/_history/2"), "bdl-8"
    ),
    # References
    "study left out": Planted(without("ImagingStudy"), "dangling"),
    "subject left out": Planted(without("Patient"), "dangling"),
    "one letter of a reference changed": Planted(
        below("Observation", "subject", reference="urn:uuid:00000000-0000-4000-8000-000000000000"), "dangling"
    ),
    "reference that names nothing": Planted(
        lambda b: res(b, "Observation").update(subject={"type": "Patient"}), "reference-empty"
    ),
    "request for another type": Planted(lambda b: entry(b, "Patient")["request"].update(url="Device/x"), "request-url"),
    "deletion with a resource": Planted(lambda b: entry(b, "Patient")["request"].update(method="DELETE"), "request-resource"),
    "reference outside the Bundle": Planted(below("Observation", "subject", reference="Patient/1"), "dangling"),
    "bare UID as a reference": Planted(below("Observation", "derivedFrom", 0, reference="1.2.3"), "reference-form"),
    "UUID in capitals": Planted(
        below("Observation", "subject", reference="urn:uuid:ABCDEF00-0000-4000-8000-000000000000"), "reference-form"
    ),
    "subject is a device's work": Planted(
        lambda b: res(b, "DiagnosticReport").update(result=[device_of(b)]), "reference-target"
    ),
    "study of the hospital": Planted(
        lambda b: res(b, "ImagingStudy").update(subject=deepcopy(res(b, "Observation")["performer"][0])), "reference-target"
    ),
    "reference that says another type": Planted(below("Observation", "subject", type="Device"), "reference-type"),
    "logical reference of no allowed type": Planted(below("ImagingStudy", "basedOn", 0, type="Patient"), "reference-target"),
    "entry twice": Planted(lambda b: b["entry"].append(deepcopy(entry(b, "Patient"))), "duplicate-full-url"),
    "full URL of another resource": Planted(
        lambda b: entry(b, "Organization").update(fullUrl="http://x.example/fhir/Organization/other"), "full-url"
    ),
    "no full URL": Planted(lambda b: entry(b, "Patient").pop("fullUrl"), "full-url"),
    "study UID without a UID": Planted(below("ImagingStudy", "identifier", 0, value="urn:oid:"), "identifier-uid"),
    "study UID without urn:oid": Planted(below("ImagingStudy", "identifier", 0, value="1.2.3"), "identifier-uid"),
    "illegal OID as a system": Planted(below("Patient", "identifier", 0, system="urn:oid:9.1"), "identifier-system"),
    # The page
    "page of another size": Planted(below("DiagnosticReport", "presentedForm", 0, size=12), "attachment-size"),
    "page with another page's hash": Planted(
        below("DiagnosticReport", "presentedForm", 0, hash="2jmj7l5rSw0yVb/vlWAYkK/YBwk="), "attachment-hash"
    ),
    "page changed after hashing": Planted(other_page, "attachment-hash"),
    "no page": Planted(put("DiagnosticReport", presentedForm=None), "presented-form"),
    "page that is no HTML": Planted(
        below("DiagnosticReport", "presentedForm", 0, contentType="application/pdf"), "presented-form"
    ),
    "page without a hash": Planted(below("DiagnosticReport", "presentedForm", 0, hash=None), "presented-form"),
    # What we promise: IHE RAD IMR, AI Transparency, drafts
    "a batch": Planted(lambda b: b.update(type="batch"), "transaction"),
    "no identifier of the Bundle": Planted(lambda b: b.pop("identifier"), "transaction"),
    "two reports": Planted(two_reports, "one-report"),
    "no profile of the Bundle": Planted(lambda b: b.pop("meta"), "imr-profile"),
    "the profile of R5": Planted(
        lambda b: b["meta"].update(profile=["http://hl7.org/fhir/StructureDefinition/Bundle|5.0.0"]), "document-version"
    ),
    "another identifier of the Bundle": Planted(lambda b: b["identifier"].update(value="urn:oid:1.2.3"), "document-uid"),
    "no profile": Planted(lambda b: res(b, "DiagnosticReport")["meta"].pop("profile"), "imr-profile"),
    "another profile": Planted(below("DiagnosticReport", "meta", profile=["http://x.example/profile"]), "imr-profile"),
    "report of no study": Planted(put("DiagnosticReport", imagingStudy=None), "report-study"),
    "study without its UID": Planted(
        put("ImagingStudy", identifier=[{"system": "urn:oid:1.2", "value": "1"}]), "study-identifier"
    ),
    "report without the AI's mark": Planted(lambda b: res(b, "DiagnosticReport")["meta"].pop("security"), "ai-asserted"),
    "observation without the AI's mark": Planted(put("Observation", meta=None), "ai-asserted"),
    "no provenance": Planted(without("Provenance"), "provenance"),
    "provenance of some results only": Planted(lambda b: res(b, "Provenance")["target"].pop(), "provenance-targets"),
    "provenance of the patient": Planted(patient_as_target, "provenance-targets"),
    "no author": Planted(author_is_nobody, "provenance-author"),
    "the hospital as the author": Planted(author_is_the_hospital, "provenance-author"),
    "no card of the model": Planted(put("Provenance", entity=None), "provenance-entities"),
    "contained resource": Planted(contained, "contained"),
    "patient made again": Planted(posted_again("Patient"), "conditional-write"),
    "observation made again": Planted(posted_again("Observation"), "conditional-write"),
    "written to another address": Planted(
        lambda b: entry(b, "Patient")["request"].update(url="Patient/x"), "conditional-write"
    ),
    "final by software": Planted(put("DiagnosticReport", status="final"), "draft-status"),
    "observation final by software": Planted(put("Observation", status="final"), "draft-status"),
    "no disclaimer": Planted(put("DiagnosticReport", conclusion="No acute finding."), "draft-disclaimer"),
    "no answer": Planted(put("Observation", valueCodeableConcept=None, interpretation=None), "observation-answer"),
    "not assessable, yet interpreted": Planted(
        lambda b: res(b, "Observation", 2).update(interpretation=deepcopy(res(b, "Observation")["interpretation"])),
        "observation-interpretation",
    ),
    "present, yet negative": Planted(turned, "observation-interpretation"),
    "probability of 140 percent": Planted(
        below("Observation", "component", 0, "valueQuantity", value=140), "observation-probability"
    ),
    "present, yet below its threshold": Planted(
        below("Observation", "component", 0, "valueQuantity", value=1.5), "observation-probability"
    ),
    "observation that the report leaves out": Planted(lambda b: res(b, "DiagnosticReport")["result"].pop(), "report-results"),
    "observation of another patient": Planted(
        lambda b: res(b, "Observation").update(subject={"reference": "Patient/other", "type": "Patient"}), "one-subject"
    ),
    # Comparison with earlier studies: the Observations after those of the three findings
    "comparison with the study itself": Planted(
        below("Observation", "derivedFrom", 1, "identifier", number=3, value="urn:oid:1.2.3"),
        "comparison-study",
        compared=True,
    ),
    "the same earlier study twice": Planted(
        below("Observation", "derivedFrom", 1, "identifier", number=3, value="urn:oid:1.2.8"),
        "comparison-study",
        compared=True,
    ),
    "comparison with no named study": Planted(
        lambda b: res(b, "Observation", 3)["derivedFrom"].pop(), "comparison-study", compared=True
    ),
    "comparison that does not say whose word it is": Planted(
        put("Observation", 4, note=[{"text": "Compared."}]), "comparison-standing", compared=True
    ),
    "comparison without words": Planted(
        put("Observation", 3, valueString=None, valueInteger=3), "comparison-text", compared=True
    ),
    "earlier finding without its change": Planted(
        below("Observation", "component", 0, number=3, valueCodeableConcept={"text": "new"}),
        "comparison-change",
        compared=True,
    ),
}
