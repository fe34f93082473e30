"""The transaction Bundle: its form, identities, patients, study, observations and report."""

import base64
import hashlib
import json
from dataclasses import replace

import pytest
from fhir.resources.R4B.bundle import Bundle
from pydicom import Dataset

from inference.reading import Code
from reporting.fhir import IMR_BUNDLE, IMR_REPORT
from reporting.fhir_study import IMR_ENDPOINT, IMR_STUDY, LISTED_INSTANCES
from reporting.wording import DISCLAIMER, PHANTOM_MARK
from tests.reporting.fhir_bundles import BY_SEARCH, build, one, patient, resolve, resources
from tests.reporting.samples import OPTIONS, TRIAGE, context, header, reading, unassessed


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
