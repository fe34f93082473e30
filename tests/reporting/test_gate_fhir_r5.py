"""The gate for our Bundles in R5: the classes of fhir.resources and our own rules judge them."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest

from reporting.conformance import faults_of
from tests.reporting.fhir_changes import Change, below, entry, posted_again, put, res, without
from tests.reporting.fhir_faults import BUNDLE_ONLY, sound

R5 = replace(BUNDLE_ONLY, fhir_version="R5")
SOUND = sound(R5)

PLANTED: dict[str, tuple[Change, str]] = {
    "unknown element": (put("Patient", colour="red"), "fhir-classes"),
    "element of R4": (
        lambda b: res(b, "DiagnosticReport").update(imagingStudy=res(b, "DiagnosticReport").pop("study")),
        "fhir-classes",
    ),
    "report without status": (put("DiagnosticReport", status=None), "fhir-classes"),
    "one for a list": (
        lambda b: res(b, "DiagnosticReport").update(result=res(b, "DiagnosticReport")["result"][0]),
        "fhir-classes",
    ),
    "two answers": (put("Observation", valueString="Present"), "fhir-classes"),
    "empty text": (put("Organization", name=""), "empty"),
    "empty object": (put("Observation", bodySite={}), "empty"),
    "patient left out": (without("Patient"), "dangling"),
    "bare UID as a reference": (below("Observation", "derivedFrom", 0, reference="1.2.3"), "reference-form"),
    "reference that says another type": (below("Observation", "subject", type="Device"), "reference-type"),
    "entry twice": (lambda b: b["entry"].append(deepcopy(entry(b, "Patient"))), "duplicate-full-url"),
    "study UID without urn:oid": (below("ImagingStudy", "identifier", 0, value="1.2.3"), "identifier-uid"),
    "page of another size": (below("DiagnosticReport", "presentedForm", 0, size="12"), "attachment-size"),
    "page of another hash": (
        below("DiagnosticReport", "presentedForm", 0, hash="2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
        "attachment-hash",
    ),
    "no page": (put("DiagnosticReport", presentedForm=None), "presented-form"),
    "final by software": (put("DiagnosticReport", status="final"), "draft-status"),
    "study not named": (put("DiagnosticReport", study=None), "report-study"),
    "patient made again": (posted_again("Patient"), "conditional-write"),
    "provenance of some results only": (lambda b: res(b, "Provenance")["target"].pop(), "provenance-targets"),
    "without the AI's mark": (put("Observation", meta=None), "ai-asserted"),
    "mark of R5 lost": (lambda b: b.pop("meta"), "document-version"),
}


@pytest.mark.parametrize("write", ["by-id", "by-search"])
def test_our_own_bundles_pass(write: str):
    assert not faults_of(sound(replace(R5, fhir_write=write)))


@pytest.mark.parametrize(("change", "rule"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_caught_by_its_rule(change: Change, rule: str):
    bundle = json.loads(SOUND.content)
    change(bundle)
    found = faults_of(replace(SOUND, content=json.dumps(bundle).encode()))
    assert rule in {fault.rule for fault in found}, [str(fault) for fault in found]
