"""The gate for FHIR: every planted fault by the rule it breaks, nothing on what is sound, and no way through for damage."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reporting.conformance import check, faults_of
from reporting.conformance.fhir import bundle_faults, standard_bundle_faults, unjudged
from reporting.conformance.fhir.definitions import r4
from reporting.conformance.fhir.outside import structure_faults
from reporting.conformance.fhir.walk import walked
from reporting.errors import DocumentError
from tests.reporting.fhir_changes import put
from tests.reporting.fhir_faults import BUNDLE_ONLY, KIND, PLANTED, Planted, plant, sound
from tests.reporting.samples import by_kind, context, disagreeing, header, reading, unassessed

SOUND = sound()
PATIENT = ("Muster", "Erika", "P-1", "1970-01-02", "ACC7", "19700102")

READINGS = {
    "whole": (reading(), context()),
    "phantom": (reading(phantom=True), context()),
    "disagreeing": (disagreeing(), context()),
    "nothing assessed": (unassessed(), context()),
    "no finding at all": (replace(reading(), findings=()), context()),
    "bare header": (
        reading(),
        context(header(PatientID="", PatientName="", PatientBirthDate="", AccessionNumber="", StudyDate="")),
    ),
    "illegal study UID": (reading(), context(header(StudyInstanceUID="1.2.03"), study_instance_uid="1.2.03")),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_caught_by_its_rule(planted: Planted):
    found = faults_of(plant(planted))
    assert planted.rule in {fault.rule for fault in found}, [str(fault) for fault in found]
    assert all(fault.clause and not any(secret in str(fault) for secret in PATIENT) for fault in found)


def test_the_table_is_long_enough_and_breaks_many_rules():
    assert len(PLANTED) >= 100
    assert len({planted.rule for planted in PLANTED.values()}) >= 45


@pytest.mark.parametrize("write", ["by-id", "by-search"])
@pytest.mark.parametrize(("read", "study"), READINGS.values(), ids=READINGS)
def test_our_own_bundles_pass(read, study, write: str):
    document = by_kind(read, study, replace(BUNDLE_ONLY, fhir_write=write))[KIND]
    assert not faults_of(document)


def test_a_broken_bundle_is_refused_with_rule_and_clause():
    with pytest.raises(DocumentError, match=r"\[draft-status, WetRead conformance statement") as refused:
        check(plant(PLANTED["final by software"]))
    assert "Muster" not in str(refused.value)


def test_only_the_first_faults_are_listed():
    def everywhere(bundle: dict) -> None:
        for entry in bundle["entry"]:
            entry["request"] = {"method": "POST", "url": "x"}

    with pytest.raises(DocumentError, match=r"and \d+ more"):
        check(plant(Planted(everywhere, "")))


NOT_JSON = {
    "nothing": b"",
    "cut short": SOUND.content[:-1],
    "not UTF-8": b'{"resourceType": "\xff"}',
    "no object": b"[]",
    "NaN": SOUND.content.replace(b"93.14", b"NaN"),
    "a number too long": b'{"resourceType": "Bundle", "total": ' + b"9" * 5000 + b"}",
    "too deep": b'{"resourceType": "Bundle", "a": ' * 5000,
    "half a surrogate": SOUND.content.replace(b'"Example Hospital"', rb'"\ud800"'),
}


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_no_json_is_told_as_a_fault(content: bytes):
    assert bundle_faults(content)
    assert standard_bundle_faults(content)


def test_two_members_of_one_name_are_told():
    content = b'{"resourceType": "Organization", "name": "A", "name": "B"}'
    assert [fault.rule for fault in standard_bundle_faults(content)] == ["json"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SOUND.content) - 1), st.integers(1, 255))
def test_a_damaged_byte_never_raises_and_passes_only_in_free_text(at: int, flip: int):
    content = bytearray(SOUND.content)
    content[at] ^= flip
    if bundle_faults(bytes(content)):
        return
    damaged = json.loads(bytes(content))
    assert _structure(damaged) == _structure(json.loads(SOUND.content))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, len(SOUND.content) - 1))
def test_a_bundle_cut_short_never_passes(size: int):
    assert bundle_faults(SOUND.content[:size])


def _structure(value: object) -> object:
    if isinstance(value, dict):
        return {name: _structure(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_structure(below) for below in value]
    return type(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(st.data(), json_values)
def test_any_value_at_any_place_never_raises(data: st.DataObject, value: object):
    bundle = json.loads(SOUND.content)
    holder, name = data.draw(st.sampled_from(list(_places(bundle))))
    holder[name] = value
    bundle_faults(json.dumps(bundle).encode())
    standard_bundle_faults(bundle)


def _places(value: object):
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in pairs:
        yield value, name
        yield from _places(below)


ODD_TEXTS = ("", " ", "x", "a  b", "é", "\x01", "2026-02-30", "2026-03-04", "urn:uuid:X", "http://x.example")
ODD_LEAVES = [*ODD_TEXTS, 0, -1, 1.5, 2**40, True, None, [], {}, ["x"], {"x": 1}]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_what_the_schema_or_the_classes_refuse_the_walk_refuses(data: st.DataObject):
    """Why a shape that both passed need not be shown to them again: no value in it escapes the walk and not them."""
    bundle = json.loads(SOUND.content)
    resource = deepcopy(data.draw(st.sampled_from([entry["resource"] for entry in bundle["entry"]])))
    for _ in range(data.draw(st.integers(1, 2))):
        holder, name = data.draw(st.sampled_from(list(_places(resource))))
        if name == "resourceType":
            continue
        if data.draw(st.booleans()) and isinstance(holder, dict):
            del holder[name]
        else:
            holder[name] = deepcopy(data.draw(st.sampled_from(ODD_LEAVES)))
        if not resource.keys() - {"resourceType"}:
            return
    refused = list(structure_faults(resource, (None, "it")))
    assert not refused or walked(resource, r4()).faults, [str(fault) for fault in refused]


def test_a_shape_is_shown_to_the_slow_judges_once(monkeypatch: pytest.MonkeyPatch):
    assert not bundle_faults(SOUND.content)
    monkeypatch.setattr("reporting.conformance.fhir.structure_faults", lambda *_: pytest.fail("judged again"))
    assert not bundle_faults(SOUND.content)
    with pytest.raises(pytest.fail.Exception):
        bundle_faults(plant(Planted(put("Organization", alias=["Elsewhere"]), "")).content)


_EXTENSION = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
STANDARD = {
    "a single resource": ({"resourceType": "Patient", "gender": "female"}, set(), ()),
    "a collection of other types": (
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"resourceType": "Medication"}}]},
        set(),
        ("Medication",),
    ),
    "a search result": (
        {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": 1,
            "entry": [
                {
                    "fullUrl": "http://x.example/Patient/1",
                    "resource": {"resourceType": "Patient", "id": "1", "_birthDate": {"extension": [_EXTENSION]}},
                    "search": {"mode": "match"},
                }
            ],
        },
        set(),
        (),
    ),
    "two versions of one patient": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [
                {"fullUrl": "http://x.example/Patient/1", "resource": {"resourceType": "Patient", "id": "1", "meta": meta}}
                for meta in ({"versionId": "1"}, {"versionId": "2"})
            ],
        },
        set(),
        (),
    ),
    "a final report by a person": (
        {"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "CT"}, "subject": {"reference": "Patient/1"}},
        set(),
        (),
    ),
    "contained and referred to": (
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "contained": [{"resourceType": "Patient", "id": "p"}],
            "subject": {"reference": "#p"},
        },
        set(),
        (),
    ),
    "contained of a wrong type": (
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "contained": [{"resourceType": "Organization", "id": "p", "name": "X"}],
            "subject": {"reference": "#p"},
        },
        {"reference-target"},
        (),
    ),
    "an absolute reference of a wrong type": (
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": "https://x.example/fhir/Organization/1"},
        },
        {"reference-target"},
        (),
    ),
    "a reference with nothing in it": (
        {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"type": "Patient"}},
        {"reference-empty"},
        (),
    ),
    "a document without a composition": (
        {
            "resourceType": "Bundle",
            "type": "document",
            "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2"},
            "timestamp": "2026-03-04T05:06:07Z",
            "entry": [{"fullUrl": "urn:oid:1.2.3", "resource": {"resourceType": "Patient", "gender": "other"}}],
        },
        {"bdl-11"},
        (),
    ),
    "a type of no release": ({"resourceType": "Film"}, {"resource-type"}, ()),
    "no type": ({"status": "final"}, {"resource-type"}, ()),
}  # fmt: skip


@pytest.mark.parametrize(("value", "rules", "left"), STANDARD.values(), ids=STANDARD)
def test_anybodys_resource(value: dict, rules: set[str], left: tuple[str, ...]):
    found = standard_bundle_faults(value)
    assert {fault.rule for fault in found} == rules, [str(fault) for fault in found]
    assert standard_bundle_faults(json.dumps(value).encode()) == found
    assert unjudged(value) == left


def test_anybodys_bundle_is_not_held_to_our_promises():
    final = plant(PLANTED["final by software"]).content
    assert bundle_faults(final)
    assert not standard_bundle_faults(final)
