"""What a CapabilityStatement says, and what counts as said of statements that are odd, partial or none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.errors import PeerUnavailable
from dicom_node.remote.fhir import FhirPeer
from dicom_node.remote.fhir_capabilities import Capabilities, capabilities, read_statement
from dicom_node.remote.fhir_plan import KINDS, contradictions, shortcomings
from tests.dicom_node.remote.record import WRITES, Record, serving
from tests.dicom_node.remote.scripted import Script, http_server


def statement(**changes: Any) -> dict[str, Any]:
    return {**Record().capabilities(), **changes}


def test_what_is_said_is_read() -> None:
    found = read_statement(statement())
    assert (found.fhir_version, found.release, found.json, found.transaction) == ("4.0.1", "R4", True, True)
    rules = found.rules("Patient")
    assert rules is not None
    assert (rules.creates, rules.names, rules.conditional_create) == (True, True, True)
    assert rules.interactions == frozenset(WRITES)
    assert [rules.finds(name) for name in ("identifier", "_tag", "birthdate")] == [True, True, False]
    assert found.rules("Medication") is None


RELEASES = {
    "4.0.0": "R4",
    "4.0.1": "R4",
    "4.3.0": "R4",
    "5.0.0": "R5",
    "3.0.2": "3.0.2",
    "": "",
    "6.0.0-ballot3": "6.0.0-ballot3",
}


@pytest.mark.parametrize(("version", "release"), RELEASES.items())
def test_releases(version: str, release: str) -> None:
    assert read_statement(statement(fhirVersion=version)).release == release


FORMATS = {
    "short": (["json"], True),
    "whole": (["application/fhir+xml", "application/fhir+json; fhirVersion=4.0"], True),
    "old": (["application/json+fhir"], True),
    "XML only": (["xml", "application/fhir+xml"], False),
    "none said": ([], None),
    "odd": ("json", None),
}


@pytest.mark.parametrize(("formats", "wanted"), FORMATS.values(), ids=FORMATS)
def test_formats(formats: Any, wanted: bool | None) -> None:
    assert read_statement(statement(format=formats)).json is wanted


ODD: dict[str, Any] = {
    "nothing": {"fhirVersion": None, "format": None, "rest": None},
    "words for lists": {"fhirVersion": 4, "format": "json", "rest": "server"},
    "lists of words": {"fhirVersion": [], "format": [1], "rest": ["server", None]},
    "a client only": {"fhirVersion": None, "format": None, "rest": [{"mode": "client", "interaction": [{"code": "batch"}]}]},
    "empty lists": {"fhirVersion": None, "format": [], "rest": [{"mode": "server", "interaction": [], "resource": []}]},
}


@pytest.mark.parametrize("parts", ODD.values(), ids=ODD)
def test_what_has_not_the_form_of_the_standard_is_not_said(parts: dict[str, Any]) -> None:
    assert read_statement({"resourceType": "CapabilityStatement", **parts}) == Capabilities()


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["server", "json", "create", "4.0.1"])
)
NAMES = st.sampled_from(
    ["rest", "resource", "interaction", "code", "type", "format", "mode", "searchParam", "fhirVersion", "x"]
)
TREES = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=4), max_leaves=20
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, TREES, max_size=5))
def test_no_statement_breaks_the_reader_and_what_it_reads_can_be_asked(tree: dict[str, Any]) -> None:
    found = read_statement(tree)
    for kind in (*KINDS, *(found.types or ())):
        rules = found.rules(kind)
        assert rules is None or isinstance(rules.creates and rules.names and rules.finds("identifier"), bool)
    assert all(isinstance(note, str) for note in shortcomings(found, KINDS, "by-search"))


def test_what_is_not_said_is_allowed() -> None:
    nothing = Capabilities()
    assert nothing.transaction
    rules = nothing.rules("Observation")
    assert rules is not None
    assert rules.creates
    assert rules.names
    assert shortcomings(nothing, KINDS, "by-id") == ()
    contradictions(nothing, "R5")


def test_a_type_without_interactions_says_nothing_of_them() -> None:
    rest = {"mode": "server", "resource": [{"type": "Patient", "conditionalCreate": "yes", "updateCreate": False}, {}]}
    rules = read_statement(statement(rest=[rest])).rules("Patient")
    assert rules is not None
    assert (rules.creates, rules.names, rules.conditional_create) == (True, False, None)


NO_STATEMENT = {
    "no such page": Script(404, b""),
    "not for us": Script(403, b""),
    "not made": Script(501, b""),
    "another resource": Script(200, json.dumps({"resourceType": "Bundle", "type": "searchset"}).encode()),
    "an object": Script(200, b"{}"),
    "nothing": Script(200, b""),
}


@pytest.mark.parametrize("script", NO_STATEMENT.values(), ids=NO_STATEMENT)
def test_a_server_without_a_statement_is_used_as_the_settings_say(script: Script) -> None:
    with http_server(script) as url:
        assert capabilities(FhirPeer(url + "/r4/")) == Capabilities()
    assert script.asked[0][:2] == ("GET", "/r4/metadata")


LATER = {"broken": 500, "restarting": 503, "too many": 429, "too slow": 408}


@pytest.mark.parametrize("status", LATER.values(), ids=LATER)
def test_a_server_that_cannot_answer_now_is_for_later(status: int) -> None:
    with http_server(Script(status, b"")) as url, pytest.raises(PeerUnavailable, match=f"HTTP {status}"):
        capabilities(FhirPeer(url))


def test_a_login_page_is_no_statement() -> None:
    with http_server(Script(200, b"<html>")) as url, pytest.raises(PeerUnavailable, match="no FHIR resource"):
        capabilities(FhirPeer(url))


SHORT = {
    "nothing": (Record(), "by-id", ""),
    "no transaction": (Record(transaction=False), "by-id", "one after the other"),
    "no ids of ours": (Record(update_create=False), "by-id", "by search instead of by id (Patient, ImagingStudy, Organization"),
    "no Provenance": (Record(types=dict.fromkeys(KINDS[:-1], WRITES)), "by-search", "by their identifiers (Provenance)"),
    "no ids of its own": (Record(types=dict.fromkeys(KINDS, ("update",))), "by-search", "by id instead of by search (Patient"),
}


@pytest.mark.parametrize(("record", "write", "said"), SHORT.values(), ids=SHORT)
def test_what_the_settings_wish_and_the_server_does_not_do_is_said(record: Record, write: str, said: str) -> None:
    with serving(record) as url:
        notes = "; ".join(shortcomings(capabilities(FhirPeer(url)), KINDS, write))
    assert said in notes
    assert bool(said) == bool(notes)
