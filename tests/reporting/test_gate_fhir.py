"""Each rule of the gate for FHIR Bundles, broken once."""

import json
from dataclasses import replace

import pytest

from reporting.conformance import check
from reporting.context import Document, DocumentKind
from reporting.errors import DocumentError
from tests.reporting.samples import OPTIONS, by_kind, context, reading

DOCUMENTS = by_kind(reading(), context(), OPTIONS)


def bundle(change) -> Document:
    document = DOCUMENTS[DocumentKind.FHIR_BUNDLE]
    held = json.loads(document.content)
    change(held, {entry["resource"]["resourceType"]: entry for entry in held["entry"]})
    return replace(document, content=json.dumps(held).encode())


BUNDLE_FAULTS = {
    "unknown element": (lambda _, e: e["Patient"]["resource"].update(colour="red"), "extra_forbidden"),
    "dangling": (lambda b, e: b["entry"].remove(e["ImagingStudy"]), "refers to ImagingStudy"),
    "wrong type": (lambda _, e: e["Observation"]["resource"]["subject"].update(type="Device"), "refers to Device"),
    "contained": (
        lambda _, e: e["DiagnosticReport"]["resource"].update(contained=[{"resourceType": "Patient"}]),
        "IMR forbids",
    ),
    "not idempotent": (lambda _, e: e["Patient"].update(request={"method": "POST", "url": "Patient"}), "again on a retry"),
    "other address": (lambda _, e: e["Patient"]["request"].update(url="Patient/x"), "again on a retry"),
    "twice": (lambda b, e: b["entry"].append(e["Patient"]), "same fullUrl"),
    "size": (lambda _, e: e["DiagnosticReport"]["resource"]["presentedForm"][0].update(size=1), "wrong size or hash"),
    "status": (lambda _, e: e["DiagnosticReport"]["resource"].pop("status"), "status"),
}


@pytest.mark.parametrize(("change", "said"), BUNDLE_FAULTS.values(), ids=BUNDLE_FAULTS)
def test_a_broken_bundle_does_not_leave(change, said: str):
    with pytest.raises(DocumentError, match=said) as refused:
        check(bundle(change))
    assert "Muster" not in str(refused.value)


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_our_own_documents_pass(document: Document):
    check(document)


def test_only_the_first_faults_are_listed():
    with pytest.raises(DocumentError, match=r"and \d+ more"):
        check(bundle(lambda b, _: [entry.update(request={"method": "POST", "url": "x"}) for entry in b["entry"]]))
