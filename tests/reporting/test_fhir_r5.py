"""The same reading in R5: accepted by the classes of R5 and not by those of R4, and the same in what it says."""

import json
from dataclasses import replace

import pytest
from fhir.resources.bundle import Bundle
from fhir.resources.R4B.bundle import Bundle as R4Bundle
from pydantic import ValidationError

from reporting.context import Document, DocumentKind, Predecessor
from tests.reporting.samples import OPTIONS, by_kind, context, disagreeing, header, reading, unassessed

R4 = replace(OPTIONS, dicomweb_url="https://pacs.example.org/dicom-web", kinds=frozenset({DocumentKind.FHIR_BUNDLE}))
R5 = replace(R4, fhir_version="R5")
WHOLE = header(
    BodyPartExamined="CHEST",
    ImageLaterality="L",
    SeriesNumber="1",
    InstanceNumber="1",
    TimezoneOffsetFromUTC="+0100",
    ReferringPhysicianName="Muster^Max",
)
CONTEXT = context(WHOLE, revision=2, predecessors=(Predecessor(DocumentKind.FHIR_BUNDLE, "2.25.7", "", ""),))
READINGS = {
    "assessed": reading(),
    "of a phantom": reading(phantom=True),
    "with a contradiction": disagreeing(),
    "not assessed": unassessed(),
}


def document(read, options, ctx=CONTEXT) -> Document:
    return by_kind(read, ctx, options)[DocumentKind.FHIR_BUNDLE]


def resources(document: Document) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for entry in json.loads(document.content)["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return found


@pytest.mark.parametrize("write", ["by-id", "by-search"])
@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_r5_classes_accept_it_and_the_gate_too(read, write: str):
    made = document(read, replace(R5, fhir_write=write))
    assert Bundle.model_validate_json(made.content).type == "transaction"
    assert made.faults == ()
    assert (made.fhir_version, made.media_type) == ("5.0", "application/fhir+json; fhirVersion=5.0")


def test_r4_classes_refuse_it():
    with pytest.raises(ValidationError):
        R4Bundle.model_validate_json(document(reading(), R5).content)
    R4Bundle.model_validate_json(document(reading(), R4).content)
    assert document(reading(), R4).media_type == "application/fhir+json"


def test_nothing_is_lost_between_the_releases():
    """Every text, code and number of the one is in the other, but for what is another document's name."""
    four, five = resources(document(reading(), R4)), resources(document(reading(), R5))
    assert {kind: len(found) for kind, found in four.items()} == {kind: len(found) for kind, found in five.items()}
    assert _leaves(four["Observation"]) == _leaves(five["Observation"])
    assert _leaves(four["Patient"]) == _leaves(five["Patient"])
    study = _leaves(four["ImagingStudy"]) - _leaves(five["ImagingStudy"])
    assert all("StructureDefinition" in leaf for leaf in study)
    assert _leaves(four["Device"]) - _leaves(five["Device"]) == {"model-name"}


def _leaves(tree) -> set[str]:
    """The values of a tree, without ids and references, which name a document by the release too."""
    if isinstance(tree, dict):
        return set().union(*(_leaves(below) for name, below in tree.items() if name not in ("id", "reference", "identifier")))
    return set().union(*map(_leaves, tree)) if isinstance(tree, list) else {str(tree)}


def test_the_forms_that_changed():
    found = resources(document(reading(), R5))
    (report,), (study,), (provenance,), (place,) = (
        found[kind] for kind in ("DiagnosticReport", "ImagingStudy", "Provenance", "Endpoint")
    )
    assert report["study"][0]["type"] == "ImagingStudy"
    assert isinstance(report["presentedForm"][0]["size"], str)
    assert "profile" not in report["meta"]
    assert study["modality"][0]["coding"][0]["code"] == "DX"
    assert study["procedure"][0]["concept"]["coding"][0]["code"] == "30745-4"
    assert study["series"][0]["bodySite"]["concept"]["coding"][0]["code"] == "51185008"
    assert provenance["authorization"][0]["concept"]["coding"][0]["code"] == "AIAST"
    assert place["payload"][0]["type"][0]["coding"][0]["code"] == "113014"
    assert [device["name"][0]["value"] for device in found["Device"]] == ["WetRead", "BiomedCLIP", "BiomedGPT"]
    facts = {one["type"]["text"]: one["valueString"] for one in found["Device"][1]["property"]}
    assert facts["licence"] == "MIT"


def test_the_same_arguments_make_the_same_bytes_and_a_release_is_another_document():
    assert document(reading(), R5).content == document(reading(), R5).content
    assert document(reading(), R5).uid != document(reading(), R4).uid
