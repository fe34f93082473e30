"""Each rule of the gate, broken once."""

import json
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from reporting.conformance import check
from reporting.context import Document, DocumentKind
from reporting.errors import DocumentError
from reporting.header import encode
from tests.reporting.samples import OPTIONS, by_kind, context, reading

DOCUMENTS = by_kind(reading(), context(), OPTIONS)
FINDINGS = DOCUMENTS[DocumentKind.FINDINGS_SR]


def group(ds: Dataset) -> Dataset:
    return ds.ContentSequence[-2].ContentSequence[0]


def drop(parent: Dataset, code: str) -> None:
    parent.ContentSequence = [item for item in parent.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue != code]


def silence(ds: Dataset) -> None:
    for item in ds.ContentSequence[-1].ContentSequence:
        if "TextValue" in item:
            item.TextValue = "fine"


SR_FAULTS = {
    "verified": (lambda ds: setattr(ds, "VerificationFlag", "VERIFIED"), "VerificationFlag is not UNVERIFIED"),
    "complete": (lambda ds: setattr(ds, "CompletionFlag", "COMPLETE"), "CompletionFlag is not PARTIAL"),
    "evidence": (lambda ds: delattr(ds, "CurrentRequestedProcedureEvidenceSequence"), "evidence"),
    "template": (lambda ds: delattr(ds, "ContentTemplateSequence"), "template 1500"),
    "observer": (lambda ds: drop(ds, "121012"), "Device Observer UID"),
    "procedure": (lambda ds: drop(ds, "121058"), "Procedure reported"),
    "disclaimer": (silence, "disclaimer"),
    "tracking UID": (lambda ds: drop(group(ds), "112040"), "Tracking Unique Identifier"),
    "finding": (lambda ds: drop(group(ds), "121071"), "'Finding'"),
    "presence": (lambda ds: drop(group(ds), "121052"), "Presence"),
    "algorithm": (lambda ds: drop(group(ds), "111003"), "Algorithm Version"),
    "scheme": (lambda ds: ds.CodingSchemeIdentificationSequence.pop(), "is not identified"),
    "empty code": (lambda ds: setattr(group(ds).ConceptNameCodeSequence[0], "CodeMeaning", ""), "empty CodeMeaning"),
    "UID": (lambda ds: setattr(ds, "SOPInstanceUID", generate_uid()), "SOP UIDs differ"),
}


@pytest.mark.parametrize(("change", "said"), SR_FAULTS.values(), ids=SR_FAULTS)
def test_a_broken_sr_does_not_leave(change, said: str):
    ds = dcmread(BytesIO(FINDINGS.content))
    change(ds)
    with pytest.raises(DocumentError, match=said):
        check(replace(FINDINGS, content=encode(ds)))


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
