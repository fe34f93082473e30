import base64
import hashlib
import json
from dataclasses import replace
from xml.dom.minidom import parseString

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from inference.reading import Code, DraftReport, HeadVersion, Method, Sentence
from reporting.content import coded
from reporting.context import DocumentKind, Predecessor
from reporting.fhir import IMR_BUNDLE, IMR_REPORT
from reporting.fhir_study import IMR_ENDPOINT, IMR_STUDY, LISTED_INSTANCES
from reporting.html import sections_of
from reporting.wording import DISCLAIMER, PHANTOM_MARK
from tests.reporting.samples import OPTIONS, TRIAGE, by_kind, context, header, reading, unassessed

BY_SEARCH = replace(OPTIONS, fhir_write="by-search")


def build(read=None, ctx=None, options=OPTIONS) -> dict:
    return json.loads(by_kind(read or reading(), ctx or context(), options)[DocumentKind.FHIR_BUNDLE].content)


def resources(bundle: dict, kind: str) -> list[dict]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def one(bundle: dict, kind: str) -> dict:
    (found,) = resources(bundle, kind)
    return found


def patient(**changes: object) -> dict:
    return one(build(ctx=context(header(**changes))), "Patient")


def resolve(bundle: dict, reference: dict) -> dict:
    return next(entry["resource"] for entry in bundle["entry"] if entry["fullUrl"] == reference["reference"])


def test_it_is_a_transaction_that_r4_classes_accept():
    bundle = build()
    assert Bundle.model_validate(bundle).type == "transaction"
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    once = {"Patient": 1, "ImagingStudy": 1, "Organization": 1, "DiagnosticReport": 1, "Provenance": 1}
    assert {kind: kinds.count(kind) for kind in kinds} == {**once, "Device": 3, "Observation": 3}


def test_written_by_id_each_resource_has_one_address():
    entries = build()["entry"]
    assert all(
        e["request"] == {"method": "PUT", "url": f"{e['resource']['resourceType']}/{e['resource']['id']}"} for e in entries
    )
    assert [e["fullUrl"] for e in entries] == [e["fullUrl"] for e in build()["entry"]]


def test_written_by_search_each_resource_is_found_again():
    for entry in build(options=BY_SEARCH)["entry"]:
        resource, request = entry["resource"], entry["request"]
        assert (request["method"], request["url"]) == ("POST", resource["resourceType"])
        assert "id" not in resource
        held = resource["meta"]["tag"][0] if resource["resourceType"] == "Provenance" else resource["identifier"][0]
        assert held.get("value", held.get("code")).replace(":", "%3A") in request["ifNoneExist"]


def test_search_values_are_escaped():
    entry = build(ctx=context(header(PatientID="A,B|C&D")), options=BY_SEARCH)["entry"][0]
    assert entry["request"]["ifNoneExist"].endswith("|A%5C%2CB%5C%7CC%26D")


def test_studies_of_one_patient_meet_and_readings_do_not():
    first, second = build(), build(ctx=context(header(StudyInstanceUID="1.2.4"), study_instance_uid="1.2.4"))
    urls = [{e["resource"]["resourceType"]: e["fullUrl"] for e in bundle["entry"]} for bundle in (first, second)]
    same = {kind for kind in urls[0] if urls[0][kind] == urls[1][kind]}
    assert same == {"Patient", "Organization"} | ({"Device"} if urls[0]["Device"] == urls[1]["Device"] else set())
    assert "Device" in same


def test_equal_numbers_of_two_issuers_are_two_patients():
    a, b = patient(IssuerOfPatientID="East"), patient(IssuerOfPatientID="West")
    assert a["identifier"][0]["value"] == b["identifier"][0]["value"]
    assert a["id"] != b["id"]
    qualifier = Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = "1.2.826.9", "ISO"
    assert patient(IssuerOfPatientIDQualifiersSequence=[qualifier])["identifier"][0]["system"] == "urn:oid:1.2.826.9"


def test_the_sites_own_systems_are_used():
    options = replace(
        OPTIONS, patient_identifier_system="urn:oid:1.2.3.4", accession_identifier_system="http://ris.example/acc"
    )
    bundle = build(options=options)
    assert one(bundle, "Patient")["identifier"][0]["system"] == "urn:oid:1.2.3.4"
    assert one(bundle, "DiagnosticReport")["basedOn"][0]["identifier"]["system"] == "http://ris.example/acc"


def test_patient_without_a_number_is_a_patient_of_this_study_only():
    nobody = [build(ctx=context(header(PatientID=""), study_instance_uid=uid)) for uid in ("1.2.3", "1.2.4")]
    assert one(nobody[0], "Patient")["id"] != one(nobody[1], "Patient")["id"]


PATIENTS = {
    "whole": ({}, {"gender": "female", "birthDate": "1970-01-02"}),
    "no sex": ({"PatientSex": ""}, {"gender": "unknown"}),
    "strange sex": ({"PatientSex": "N"}, {"gender": "unknown"}),
    "no birth date": ({"PatientBirthDate": ""}, {"birthDate": None}),
    "no name": ({"PatientName": ""}, {"name": None}),
}


@pytest.mark.parametrize(("changes", "wanted"), PATIENTS.values(), ids=PATIENTS)
def test_patient(changes: dict[str, object], wanted: dict[str, object]):
    found = patient(**changes)
    assert {key: found.get(key) for key in wanted} == wanted


def test_names_in_several_scripts():
    ds = header(SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou^^Dr=山田^太郎")
    latin, kanji = one(build(ctx=context(ds)), "Patient")["name"]
    assert (latin["family"], latin["given"], latin["prefix"], latin["text"]) == ("Yamada", ["Tarou"], ["Dr"], "Dr Tarou Yamada")
    assert (kanji["family"], kanji["extension"][0]["valueCode"]) == ("山田", "IDE")


def test_imaging_study_has_one_dicom_uid_and_counts():
    ctx = context(header(), header(SOPInstanceUID="1.2.3.2.1", SeriesInstanceUID="1.2.3.2", Modality="SR"))
    study = one(build(ctx=ctx), "ImagingStudy")
    uid, accession = study["identifier"]
    assert uid == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
    assert (accession["type"]["coding"][0]["code"], accession["value"]) == ("ACSN", "ACC7")
    assert (study["numberOfSeries"], study["numberOfInstances"], study["started"]) == (2, 2, "2026-03-04")
    assert [code["code"] for code in study["modality"]] == ["DX", "SR"]
    assert [series["uid"] for series in study["series"]] == ["1.2.3.1", "1.2.3.2"]


def test_observations_answer_each_finding():
    present, absent, unknown = resources(build(), "Observation")
    assert present["code"]["coding"] == [{"system": "http://snomed.info/sct", "code": "36118008", "display": "Pneumothorax"}]
    assert [o["valueCodeableConcept"]["coding"][0]["code"] for o in (present, absent)] == ["52101004", "272519000"]
    assert [o["interpretation"][0]["coding"][0]["code"] for o in (present, absent)] == ["POS", "NEG"]
    assert "valueCodeableConcept" not in unknown
    assert unknown["dataAbsentReason"]["text"] == "Not assessable: The film is lateral."
    assert unknown["code"]["coding"][0]["system"] == "http://radlex.org"
    assert present["bodySite"]["coding"][0]["code"] == "39607008"


def test_probability_and_threshold_are_components():
    components = [{c["code"]["text"]: c for c in o["component"]} for o in resources(build(), "Observation")]
    assert [c["Certainty of Finding"].get("valueQuantity", {}).get("value") for c in components] == [93.14, 2.1, None]
    assert [c["Decision threshold"]["valueQuantity"]["value"] for c in components] == [50.0, 40.0, 60.0]
    assert components[2]["Certainty of Finding"]["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert components[0]["Urgency if present"]["valueCodeableConcept"]["text"] == "STAT"


def test_a_scheme_that_fhir_has_no_uri_for_becomes_text():
    finding = replace(reading().findings[0], code=Code("X1", "99SITE", "Site finding"))
    observation = one(build(replace(reading(), findings=(finding,))), "Observation")
    assert observation["code"] == {"text": "Site finding"}


def test_results_are_asserted_by_ai_and_phantoms_are_test_data():
    for kind in ("Observation", "DiagnosticReport", "Provenance"):
        for phantom, marks in ((False, ["AIAST"]), (True, ["AIAST", "HTEST"])):
            held = resources(build(reading(phantom=phantom)), kind)[0]["meta"]["security"]
            assert [mark["code"] for mark in held] == marks


def test_report():
    bundle = build()
    report = one(bundle, "DiagnosticReport")
    assert report["meta"]["profile"] == [IMR_REPORT]
    assert (report["status"], report["issued"]) == ("partial", "2026-03-04T05:06:07.080+01:00")
    assert report["basedOn"][0]["identifier"]["value"] == "ACC7"
    assert [resolve(bundle, ref)["resourceType"] for ref in report["result"]] == ["Observation"] * 3
    assert resolve(bundle, report["imagingStudy"][0])["resourceType"] == "ImagingStudy"
    assert resolve(bundle, report["performer"][0])["name"] == "Example Hospital"
    assert report["conclusion"].startswith(DISCLAIMER)
    assert "No interpreter" in report["resultsInterpreter"][0]["display"]
    assert "conclusionCode" not in report
    assert "basedOn" not in one(build(ctx=context(header(AccessionNumber=""))), "DiagnosticReport")


@pytest.mark.parametrize("status", ["registered", "preliminary"])
def test_status_is_the_sites_choice(status):
    assert one(build(options=replace(OPTIONS, fhir_status=status)), "DiagnosticReport")["status"] == status


def test_presented_form_is_whole_and_escaped():
    (form,) = one(build(reading(phantom=True)), "DiagnosticReport")["presentedForm"]
    page = base64.b64decode(form["data"])
    assert form["contentType"] == "text/html"
    assert form["size"] == len(page)
    assert base64.b64decode(form["hash"]) == hashlib.sha1(page).digest()
    text = page.decode()
    assert "No effusion &lt; 3 mm &amp; nothing else. [confidence 50.0 %]" in text
    assert "<script" not in text
    assert PHANTOM_MARK in text
    assert DISCLAIMER in text


def test_provenance_names_models_cards_catalogue_and_images():
    bundle = build()
    provenance = one(bundle, "Provenance")
    who = [resolve(bundle, agent["who"])["deviceName"][0]["name"] for agent in provenance["agent"]]
    assert who == ["BiomedCLIP", "BiomedGPT", "WetRead"]
    assert {resolve(bundle, target)["resourceType"] for target in provenance["target"]} == {"DiagnosticReport", "Observation"}
    shown = " ".join(entity["what"].get("display", "") for entity in provenance["entity"])
    assert all(word in shown for word in ("chest 3", "non-commercial", TRIAGE.digest, TRIAGE.intended_use))
    assert resolve(bundle, provenance["entity"][0]["what"])["resourceType"] == "ImagingStudy"


def test_a_study_not_assessed_still_has_a_report_that_says_so():
    bundle = build(unassessed())
    assert "Not assessable: The catalogue does not cover CT." in one(bundle, "DiagnosticReport")["conclusion"]
    assert all("dataAbsentReason" in observation for observation in resources(bundle, "Observation"))
    assert [device["deviceName"][0]["name"] for device in resources(bundle, "Device")] == ["WetRead"]


def test_the_bundle_says_that_it_is_imrs():
    bundle = build()
    assert bundle["meta"]["profile"] == [IMR_BUNDLE]
    assert "\n" not in json.dumps(bundle)


def test_entries_refer_only_to_earlier_ones():
    """A server without transactions gets them one after the other."""
    written: list[str] = []
    for entry in build(options=replace(OPTIONS, dicomweb_url="https://pacs.example.org/dicom-web"))["entry"]:
        named = json.dumps(entry["resource"]).split('"reference": "')[1:]
        assert {text.split('"')[0] for text in named} <= set(written)
        written.append(entry["fullUrl"])


TIMES = {
    "with a zone": ({"TimezoneOffsetFromUTC": "-0430"}, "2026-03-04T04:30:00-04:30"),
    "to the second": ({"TimezoneOffsetFromUTC": "+0100", "StudyTime": "235959"}, "2026-03-04T23:59:59+01:00"),
    "with a fraction": ({"TimezoneOffsetFromUTC": "+0000", "StudyTime": "010203.25"}, "2026-03-04T01:02:03.250+00:00"),
    "hours only": ({"TimezoneOffsetFromUTC": "+0100", "StudyTime": "04"}, "2026-03-04"),
    "no time": ({"TimezoneOffsetFromUTC": "+0100", "StudyTime": ""}, "2026-03-04"),
    "no zone": ({}, "2026-03-04"),
    "no zone that there is": ({"TimezoneOffsetFromUTC": "+9999"}, "2026-03-04"),
    "no date": ({"StudyDate": "", "TimezoneOffsetFromUTC": "+0100"}, None),
}


@pytest.mark.parametrize(("changes", "wanted"), TIMES.values(), ids=TIMES)
def test_it_is_effective_when_the_study_was_made_and_issued_when_written(changes: dict[str, str], wanted: str | None):
    bundle = build(ctx=context(header(**changes)))
    assert one(bundle, "ImagingStudy").get("started") == wanted
    for resource in (one(bundle, "DiagnosticReport"), *resources(bundle, "Observation")):
        assert resource.get("effectiveDateTime") == wanted
        assert resource["issued"].startswith("2026-03-0")


def test_series_tell_number_place_side_and_instances():
    series = {"SeriesNumber": "3", "SeriesDescription": "PA", "BodyPartExamined": "CHEST", "InstanceNumber": "2"}
    ctx = context(header(**series, ImageLaterality="R"), header(SOPInstanceUID="1.2.3.1.2", **series, ImageLaterality="R"))
    (found,) = one(build(ctx=ctx), "ImagingStudy")["series"]
    assert (found["number"], found["description"], found["numberOfInstances"]) == (3, "PA", 2)
    assert (found["bodySite"]["code"], found["laterality"]["display"]) == ("51185008", "Right")
    assert [one["uid"] for one in found["instance"]] == ["1.2.3.1.1", "1.2.3.1.2"]
    assert found["instance"][0]["sopClass"]["code"] == "urn:oid:1.2.840.10008.5.1.4.1.1.1.1"
    assert found["instance"][0]["number"] == 2
    both = context(header(ImageLaterality="R"), header(SOPInstanceUID="1.2.3.1.2", ImageLaterality="L"))
    assert "laterality" not in one(build(ctx=both), "ImagingStudy")["series"][0]


def test_many_instances_are_counted_and_not_listed():
    many = [header(SOPInstanceUID=f"1.2.3.1.{number + 1}") for number in range(LISTED_INSTANCES + 1)]
    study = one(build(ctx=context(*many)), "ImagingStudy")
    assert study["numberOfInstances"] == LISTED_INSTANCES + 1
    assert "instance" not in study["series"][0]


def test_referrer_and_reason_of_the_request_are_told():
    request = Dataset()
    request.ReasonForTheRequestedProcedure = "Chest pain"
    ctx = context(header(ReferringPhysicianName="Muster^Max^^Dr", RequestAttributesSequence=[request]))
    study = one(build(ctx=ctx), "ImagingStudy")
    assert study["referrer"] == {"type": "Practitioner", "display": "Dr Max Muster"}
    assert study["reasonCode"] == [{"text": "Chest pain"}]


def test_imrs_study_profile_is_claimed_only_with_a_place_to_fetch_it():
    options = replace(OPTIONS, dicomweb_url="https://pacs.example.org/dicom-web/")
    bundle = build(options=options)
    study, place = one(bundle, "ImagingStudy"), one(bundle, "Endpoint")
    assert resolve(bundle, study["endpoint"][0]) == place
    assert (study["meta"]["profile"], place["meta"]["profile"]) == ([IMR_STUDY], [IMR_ENDPOINT])
    assert (place["address"], place["connectionType"]["code"]) == ("https://pacs.example.org/dicom-web", "dicom-wado-rs")
    assert "meta" not in one(build(), "ImagingStudy")
    assert "meta" not in one(build(ctx=context(header(StudyDate="")), options=options), "ImagingStudy")


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
