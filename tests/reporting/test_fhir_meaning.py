"""What the Bundle says: procedures, methods, models and heads, revisions, text that stays text, concepts in their languages."""

import base64
import json
from dataclasses import replace
from xml.dom.minidom import parseString

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from inference.reading import Code, DraftReport, HeadVersion, Method, Sentence
from reporting.content import coded
from reporting.context import DocumentKind, Predecessor
from reporting.html import sections_of
from reporting.wording import PHANTOM_MARK
from tests.reporting.fhir_bundles import build, one, resolve, resources
from tests.reporting.samples import OPTIONS, context, header, reading


def procedure(value: str, scheme: str, meaning: str) -> Dataset:
    return coded(Code(value, scheme, meaning))


CODES = {
    "by modality and body part": ({"BodyPartExamined": "CHEST"}, ["30745-4"], "XR Chest Views"),
    "as the images say in LOINC": (
        {"BodyPartExamined": "CHEST", "ProcedureCodeSequence": [procedure("36643-5", "LN", "XR Chest 2 Views")]},
        ["36643-5"],
        "XR Chest 2 Views",
    ),
    "beside the images' own code": (
        {"BodyPartExamined": "CHEST", "ProcedureCodeSequence": [procedure("399208008", "SCT", "Plain chest X-ray")]},
        ["30745-4", "399208008"],
        "Plain chest X-ray",
    ),
    "as requested": (
        {"BodyPartExamined": "HAND", "RequestedProcedureCodeSequence": [procedure("H1", "99SITE", "Hand, two views")]},
        ["28582-5"],
        "Hand, two views",
    ),
    "two procedures": (
        {
            "BodyPartExamined": "CHEST",
            "ProcedureCodeSequence": [procedure("1", "99SITE", "Chest"), procedure("2", "99SITE", "Abdomen")],
        },
        ["30745-4"],
        "Chest; Abdomen",
    ),
    "an unknown part": ({"BodyPartExamined": "TAIL"}, ["43468-8"], "XR Unspecified body region Views"),
    "an unknown modality": ({"Modality": "XC"}, ["18748-4"], "Diagnostic imaging study"),
}


@pytest.mark.parametrize(("changes", "values", "text"), CODES.values(), ids=CODES)
def test_the_report_is_filed_by_its_procedure(changes: dict[str, object], values: list[str], text: str):
    code = one(build(ctx=context(header(**changes))), "DiagnosticReport")["code"]
    assert ([held["code"] for held in code["coding"]], code["text"]) == (values, text)


def test_the_study_names_its_procedures_and_the_report_its_service():
    known = header(BodyPartExamined="CHEST", ProcedureCodeSequence=[procedure("H1", "99SITE", "Chest, lying")])
    bundle = build(ctx=context(known))
    assert one(bundle, "ImagingStudy")["procedureCode"] == [{"text": "Chest, lying"}]
    services = [held["code"] for one_ in one(bundle, "DiagnosticReport")["category"] for held in one_["coding"]]
    assert services == ["RAD", "RX", "LP29684-5"]
    assert "procedureCode" not in one(build(ctx=context(header(Modality="XC"))), "ImagingStudy")


def test_findings_name_order_method_side_and_the_image_that_decided():
    present, _, unknown = resources(build(ctx=context(header(ImageLaterality="L"))), "Observation")
    assert present["basedOn"][0]["identifier"]["value"] == "ACC7"
    assert present["method"]["coding"][0]["code"] == "ZEROSHOT"
    assert "method" not in unknown
    parts = {component["code"]["text"]: component for component in present["component"]}
    assert parts["Source of Measurement"]["valueString"] == "series/1.2.3.1/instances/1.2.3.1.1"
    assert parts["Laterality"]["valueCodeableConcept"]["coding"][0]["display"] == "Left"
    assert {component["code"]["text"] for component in unknown["component"]}.isdisjoint({"Source of Measurement", "Laterality"})


HEADS = (HeadVersion("calibration", "site A", "1", "e" * 64), HeadVersion("probe", "site B", "2", "f" * 64))


def test_each_finding_names_the_weights_that_judged_it():
    first, second, third = reading().findings
    read = replace(
        reading(), heads=HEADS, findings=(replace(first, method=Method.CALIBRATED), replace(second, method=Method.PROBE), third)
    )
    bundle = build(read)
    judges = [resolve(bundle, one["device"]) for one in resources(bundle, "Observation")]
    assert [judge["deviceName"][0]["name"] for judge in judges] == ["site A", "site B", "BiomedCLIP"]
    assert all(resolve(bundle, judge["parent"])["deviceName"][0]["name"] == "BiomedCLIP" for judge in judges[:2])
    assert [version["value"] for version in judges[1]["version"]] == ["2", "f" * 64]
    provenance = one(bundle, "Provenance")
    authors = [resolve(bundle, agent["who"])["deviceName"][0]["name"] for agent in provenance["agent"]]
    assert authors == ["BiomedCLIP", "BiomedGPT", "site A", "site B", "WetRead"]
    assert "sha256:" + "f" * 64 in {entity["what"].get("identifier", {}).get("value") for entity in provenance["entity"]}


def test_a_head_on_trial_is_not_named():
    on_trial = replace(HEADS[1], kind="probe in shadow")
    bundle = build(replace(reading(), heads=(on_trial,)))
    assert len(resources(bundle, "Device")) == 3
    assert "site B" not in json.dumps(bundle)


def test_model_cards_are_properties_of_the_device():
    for device in resources(build(reading(phantom=True)), "Device")[1:]:
        facts = {one_["type"]["text"]: one_["valueCode"][0]["text"] for one_ in device["property"]}
        assert facts["intended use"] == "research"
        assert PHANTOM_MARK in facts["phantom"]
        assert device["type"]["coding"][0]["code"] == "Artificial-Intelligence"


def test_a_revision_names_the_report_it_replaces_and_claims_nothing_of_it():
    first = build()
    uid = first["identifier"]["value"].removeprefix("urn:oid:")
    earlier = Predecessor(DocumentKind.FHIR_BUNDLE, uid, "", "")
    second = build(ctx=context(revision=2, predecessors=(earlier, Predecessor(DocumentKind.DRAFT_SR, "1.2", "1.3", "1.4"))))
    (extension,) = one(second, "DiagnosticReport")["extension"]
    assert extension["url"].endswith("/diagnosticReport-replaces")
    assert extension["valueReference"]["identifier"] == one(first, "DiagnosticReport")["identifier"][0]
    assert one(second, "DiagnosticReport")["status"] == "partial"
    provenance = one(second, "Provenance")
    assert [e["role"] for e in provenance["entity"]].count("revision") == 1
    assert provenance["activity"]["coding"][0]["code"] == "UPDATE"
    assert "extension" not in one(first, "DiagnosticReport")


HOSTILE = "<script>alert(1)</script> & \"'\x00\x08\ufffe😀 <b>"


def test_no_text_of_a_model_can_break_out_of_the_page():
    read = replace(reading(), draft=DraftReport((Sentence(HOSTILE, 0.5),)))
    report = one(build(read), "DiagnosticReport")
    page = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    div = parseString(report["text"]["div"]).documentElement
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; " in page
    assert "<script" not in page
    assert div.getElementsByTagName("script").length == 0
    assert div.namespaceURI == "http://www.w3.org/1999/xhtml"
    assert "😀" in page
    assert "\x08" not in page


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_of_a_model_stays_text(said: str):
    sections = sections_of(replace(reading(), draft=DraftReport((Sentence(said, 0.5),))), OPTIONS.words)
    tags = {node.tagName for node in parseString(f"<div>{sections}</div>").getElementsByTagName("*")}
    assert tags <= {"div", "p", "strong", "h2", "ul", "li"}


def test_provenance_says_that_an_ai_made_it():
    provenance = one(build(), "Provenance")
    assert provenance["reason"][0]["coding"][0]["code"] == "AIAST"
    roles = [[role["coding"][0]["code"] for role in agent.get("role", ())] for agent in provenance["agent"]]
    assert roles == [["Artificial-Intelligence"], ["Artificial-Intelligence"], []]


def test_concepts_are_named_in_the_documents_language_and_coded_in_their_own():
    observation = resources(build(options=replace(OPTIONS, language="de")), "Observation")[0]
    assert observation["code"] == {
        "coding": [{"system": "http://snomed.info/sct", "code": "36118008", "display": "Pneumothorax"}],
        "text": "Pneumothorax",
    }
    assert observation["valueCodeableConcept"]["coding"][0]["display"] == "Present"
    assert observation["valueCodeableConcept"]["text"] != "Present"


def test_the_issuer_of_an_accession_number_is_its_system():
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.826.8", "ISO"
    report = one(build(ctx=context(header(IssuerOfAccessionNumberSequence=[issuer]))), "DiagnosticReport")
    assert report["basedOn"][0]["identifier"]["system"] == "urn:oid:1.2.826.8"
