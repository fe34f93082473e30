"""Each probability says how it was formed, and each calibration or probe that formed one is named as an algorithm."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread

from inference.reading import Decision, HeadVersion, Method, Reading
from reporting import codes
from reporting.content import concept, is_code, walk
from reporting.context import DocumentKind
from reporting.heads import deciding_heads, heads_of
from reporting.uids import device_uid
from tests.reporting.samples import OPTIONS, by_kind, context, header, reading, unassessed

KINDS = {DocumentKind.FINDINGS_SR, DocumentKind.TEXT_SR, DocumentKind.HL7_ORU, DocumentKind.FHIR_BUNDLE}
EVERY = replace(OPTIONS, kinds=frozenset(KINDS))
CALIBRATION = HeadVersion("calibration", "Ward A", "3", "e" * 64)
PROBE = HeadVersion("probe", "Ward B", "1", "f" * 64)


def fitted(*heads: HeadVersion, method: Method = Method.CALIBRATED) -> Reading:
    """The first finding formed by ``method`` from three images, the second by the model alone."""
    first, *rest = reading().findings
    formed = replace(first, method=method, aggregation="highest of 3 images")
    return replace(reading(), findings=(formed, *rest), heads=heads)


def groups(read: Reading) -> list[dict[str, list[Dataset]]]:
    """The items of each measurement group by concept."""
    ds = dcmread(BytesIO(by_kind(read, context(header()), EVERY)[DocumentKind.FINDINGS_SR].content))
    found = [item for item in walk(ds) if is_code(concept(item), codes.MEASUREMENT_GROUP)]
    return [_by_name(group) for group in found]


def _by_name(group: Dataset) -> dict[str, list[Dataset]]:
    named: dict[str, list[Dataset]] = {}
    for item in group.ContentSequence:
        named.setdefault(item.ConceptNameCodeSequence[0].CodeValue, []).append(item)
    return named


METHODS = {
    "zero-shot": (Method.ZERO_SHOT, "ZEROSHOT", 1),
    "calibrated": (Method.CALIBRATED, "CALIBRATED", 2),
    "probe": (Method.PROBE, "PROBE", 2),
}


@pytest.mark.parametrize(("method", "value", "parameters"), METHODS.values(), ids=METHODS)
def test_a_group_names_its_method_and_its_own_head(method: Method, value: str, parameters: int) -> None:
    """TID 1501 Measurement Method, and TID 4019's parameters: the weights of the model, then of the head."""
    first, second, open_one = groups(fitted(CALIBRATION, PROBE, method=method))
    (item,) = first["370129005"]
    assert (item.RelationshipType, item.ConceptCodeSequence[0].CodeValue) == ("HAS CONCEPT MOD", value)
    assert len(first[codes.ALGORITHM_PARAMETERS.value]) == parameters
    assert first["AGGREGATION"][0].TextValue == "highest of 3 images"
    assert second["370129005"][0].ConceptCodeSequence[0].CodeValue == "ZEROSHOT"
    assert len(second[codes.ALGORITHM_PARAMETERS.value]) == 1
    assert "370129005" not in open_one  # it has no probability, so none was formed


def test_the_head_stands_with_its_digest() -> None:
    parameters = [item.TextValue for item in groups(fitted(CALIBRATION))[0][codes.ALGORITHM_PARAMETERS.value]]
    assert parameters == [f"sha256 {'a' * 64}", f"calibration Ward A 3, sha256 {'e' * 64}"]


def test_a_head_is_a_contributing_device_of_its_own() -> None:
    ds = dcmread(BytesIO(by_kind(fitted(CALIBRATION), context(header()), EVERY)[DocumentKind.FINDINGS_SR].content))
    head = ds.ContributingEquipmentSequence[-1]
    assert (head.ManufacturerModelName, head.DeviceUID) == ("Ward A", device_uid("e" * 64))
    assert head.Manufacturer == "Example Hospital"  # where it was fitted


def test_a_head_on_trial_is_named_nowhere() -> None:
    read = fitted(CALIBRATION, PROBE)
    assert deciding_heads(read) == (CALIBRATION,)
    assert heads_of(read, read.findings[1]) == ()
    documents = by_kind(read, context(header()), EVERY)
    assert set(documents) == KINDS
    for document in documents.values():
        assert b"Ward A" in document.content, document.kind
        assert b"Ward B" not in document.content, document.kind
        assert document.faults == (), document.kind


def test_where_nothing_was_judged_nothing_is_said_of_how() -> None:
    read = replace(unassessed(), heads=(CALIBRATION,))
    assert deciding_heads(read) == ()
    assert all(one.decision is Decision.NOT_ASSESSABLE for one in read.findings)
    assert not any(b"Ward A" in document.content for document in by_kind(read, context(header()), EVERY).values())


def test_plain_texts_say_how_each_probability_was_formed() -> None:
    documents = by_kind(fitted(CALIBRATION), context(header()), EVERY)
    said = (
        "Probability of Pneumothorax: the model's score, calibrated on labelled images of the site, highest of 3 images.",
        "Probability of Pleural effusion: the model's own score over prompts, uncalibrated.",
    )
    for kind in (DocumentKind.TEXT_SR, DocumentKind.HL7_ORU):
        assert all(line in documents[kind].content.decode("utf-8", "replace") for line in said), kind
    bundle = json.loads(documents[DocumentKind.FHIR_BUNDLE].content)
    observations = [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "Observation"]
    assert [bool(one.get("method")) for one in observations] == [True, True, False]


def test_other_heads_make_other_objects() -> None:
    """The same UID over other numbers would be two objects under one name."""
    readings = (fitted(), fitted(CALIBRATION), fitted(replace(CALIBRATION, digest="d" * 64)), fitted(CALIBRATION, PROBE))
    uids = [by_kind(read, context(header()), EVERY)[DocumentKind.FINDINGS_SR].uid for read in readings]
    assert len(set(uids)) == len(readings)
