"""Routes: the first that holds decides, and a file that could leave a study without an answer is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.routing import PRIORITY, Names, PriorityName, StudyFacts, default_routes, load_routes
from dicom_node.settings import defaults_folder
from dicom_node.storage.jobs import Priority
from reporting.context import DocumentKind

NAMES = Names(
    frozenset({"chest_xray", "chest_ct"}),
    {
        "pacs": frozenset({DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR}),
        "record": frozenset({DocumentKind.FHIR_BUNDLE}),
    },
    findings=frozenset({"pneumothorax", "nodule"}),
)
ROUTES = """
routes:
  - name: stat films
    when: {modality: [CR, dx], requested_priority: stat}
    reading: chest_xray
    priority: STAT
    destinations: [pacs, record]
  - name: emergency room
    when: {calling_ae: ER_gate, body_part: chest}
    reading: chest_xray
    priority: urgent
    destinations: [pacs]
  - name: ct
    when: {modality: CT}
    reading: chest_ct
    priority: research
  - name: the rest
    reading: chest_xray
"""


def facts(modality: str = "DX", *more: str, body: str = "", calling: str = "PACS", priority: str = "") -> StudyFacts:
    return StudyFacts(
        frozenset({modality, *more}),
        frozenset({body} if body else ()),
        frozenset({calling}),
        frozenset({priority} if priority else ()),
    )


def load(folder: Path, text: str) -> list[str]:
    file = folder / "routes.yaml"
    file.write_text(text, "utf-8")
    return [route.name for route in load_routes(file, NAMES).routes]


MATCHES = {
    "both conditions hold": (facts("DX", priority="STAT"), "stat films", PriorityName.STAT),
    "any value of a list is enough": (facts("CR", priority="STAT"), "stat films", PriorityName.STAT),
    "any instance of the study is enough": (facts("PR", "DX", priority="STAT"), "stat films", PriorityName.STAT),
    "one of two conditions is not enough": (facts("DX", priority="ROUTINE"), "the rest", PriorityName.ROUTINE),
    "no priority sent": (facts("DX"), "the rest", PriorityName.ROUTINE),
    "the first of two that hold": (
        facts("DX", body="CHEST", calling="ER_gate", priority="STAT"),
        "stat films",
        PriorityName.STAT,
    ),
    "AE and body part": (facts("DX", body="CHEST", calling="ER_gate"), "emergency room", PriorityName.URGENT),
    "an AE title is exact in case": (facts("DX", body="CHEST", calling="ER_GATE"), "the rest", PriorityName.ROUTINE),
    "one value": (facts("CT"), "ct", PriorityName.RESEARCH),
    "nothing known": (StudyFacts(frozenset(), frozenset(), frozenset(), frozenset()), "the rest", PriorityName.ROUTINE),
}


@pytest.mark.parametrize(("study", "name", "priority"), MATCHES.values(), ids=MATCHES.keys())
def test_the_first_route_that_holds(tmp_path: Path, study: StudyFacts, name: str, priority: PriorityName) -> None:
    (tmp_path / "r.yaml").write_text(ROUTES)
    route = load_routes(tmp_path / "r.yaml", NAMES).match(study)
    assert (route.name, route.priority) == (name, priority)


BAD = {
    "unknown reading": (
        "routes: [{name: a, reading: mri}]",
        "route 'a': reading 'mri' is not in the settings; there are: chest_ct, chest_xray",
    ),
    "unknown destination": (
        "routes: [{name: a, reading: chest_ct, destinations: [pax]}]",
        "route 'a': destination 'pax' is not in the settings; there are: pacs, record",
    ),
    "last route with conditions": (
        "routes: [{name: a, when: {modality: CT}, reading: chest_ct}]",
        "the last route ('a') must have no `when`",
    ),
    "routes that are never reached": (
        "routes: [{name: a, reading: chest_ct}, {name: b, reading: chest_ct}]",
        "route 'a' has no `when`, so the routes after it are never reached",
    ),
    "a name twice": (
        "routes: [{name: a, when: {modality: CT}, reading: chest_ct}, {name: a, reading: chest_ct}]",
        "route 'a': the name is used twice",
    ),
    "unknown condition": (
        "routes: [{name: a, when: {modalty: CT}, reading: chest_ct}]",
        "routes.0.when.modalty: not a key here; allowed: modality, body_part, calling_ae, called_ae, host",
    ),
    "unknown key": (
        "routes: [{name: a, reading: chest_ct, colour: red}]",
        "routes.0.colour: not a key here; allowed: name, when, reading, priority, destinations, documents",
    ),
    "unknown priority": (
        "routes: [{name: a, reading: chest_ct, priority: soon}]",
        "routes.0.priority: Input should be 'STAT', 'urgent'",
    ),
    "a condition below another": (
        "routes: [{name: a, when: {any: [{modality: CT}, {not: {colour: red}}]}, reading: chest_ct}]",
        "routes.0.when.any.1.not.colour: not a key here",
    ),
    "a document the destination does not take": (
        "routes: [{name: a, reading: chest_ct, destinations: [record], documents: pdf}]",
        "destination 'record' takes no pdf; by the settings (`documents`) it takes: fhir-bundle",
    ),
    "an attribute that DICOM lacks": (
        "routes: [{name: a, when: {attributes: {StationNames: x}}, reading: chest_ct}]",
        "'StationNames' is no keyword of a DICOM attribute",
    ),
    "hours that are none": (
        "routes: [{name: a, when: {hours: '25:00-06:00'}, reading: chest_ct}]",
        "'25:00-06:00' is no span of time such as 22:00-06:30",
    ),
    "hours that YAML makes a number": (
        "routes: [{name: a, when: {hours: 22:00}, reading: chest_ct}]",
        "routes.0.when.hours: give a span of time in quotes",
    ),
    "no weekday": ("routes: [{name: a, when: {weekdays: someday}, reading: chest_ct}]", "routes.0.when.weekdays"),
    "no network": ("routes: [{name: a, when: {host: 10.0.0.0/99}, reading: chest_ct}]", "routes.0.when.host"),
    "a result rule without conditions": (
        "routes: [{name: a, reading: chest_ct}]\nresults: [{name: b, when: {}, destinations: pacs}]",
        "results.0.destinations: ",
    ),
    "a result rule that says nothing": (
        "routes: [{name: a, reading: chest_ct}]\nresults: [{name: b, when: {}, destinations: [pacs]}]",
        "result rule 'b' has no condition",
    ),
    "a result rule of an unknown route": (
        "routes: [{name: a, reading: chest_ct}]\nresults: [{name: b, when: {route: c}, destinations: [pacs]}]",
        "result rule 'b': there is no route 'c'; there are: a",
    ),
    "a probability above one": (
        "routes: [{name: a, reading: chest_ct}]\nresults: [{name: b, when: {min_probability: 50}, destinations: [pacs]}]",
        "a probability lies between 0 and 1",
    ),
    "a result rule of an unknown finding": (
        "routes: [{name: a, reading: chest_ct}]\nresults: [{name: b, when: {finding: pneumotorax}, destinations: [pacs]}]",
        "result rule 'b': no catalogue of the settings has a finding 'pneumotorax'. Did you mean 'pneumothorax'?",
    ),
    "a key written twice": (
        "routes: [{name: a, reading: chest_ct}]\nroutes: [{name: b, reading: chest_ct}]",
        "key 'routes' is written twice",
    ),
    "a route that is no list": ("routes: {name: a, reading: chest_ct}", "routes: give a list"),
    "an unknown urgency": (
        "routes: [{name: a, reading: chest_ct}]\nresults: [{name: b, when: {urgency: soon}, destinations: [pacs]}]",
        "results.0.when.urgency",
    ),
    "an unknown key on results": (
        "routes: [{name: a, reading: chest_ct}]\nresults: [{name: b, when: {urgent: x}, destinations: [pacs]}]",
        "results.0.when.urgent: not a key here; allowed: finding, decision, urgency, min_probability, assessed, route",
    ),
    "no routes": ("routes: []", "routes: "),
    "no key": ("", "top level: "),
    "a list on top": ("- a", "top level: "),
    "no reading": ("routes: [{name: a}]", "routes.0.reading: Field required"),
    "no name": ("routes: [{name: '', reading: chest_ct}]", "routes.0.name: "),
    "modality is a number": ("routes: [{name: a, when: {modality: 5}, reading: chest_ct}]", "routes.0.when.modality: "),
    "not YAML": ("routes: [", "cannot be read as YAML"),
}


@pytest.mark.parametrize(("text", "part"), BAD.values(), ids=BAD.keys())
def test_a_mistake_names_file_and_route(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "routes.yaml"))
    assert part in str(caught.value)


def test_a_missing_file_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no such routes file \(key 'routes' of the settings\)"):
        load_routes(tmp_path / "none.yaml", NAMES)


def test_an_explicit_empty_when_is_no_condition(tmp_path: Path) -> None:
    assert load(tmp_path, "routes: [{name: a, when: {}, reading: chest_ct}]") == ["a"]


def test_without_a_file_everything_goes_everywhere() -> None:
    route = default_routes(NAMES).match(facts())
    assert route.reading in NAMES.readings
    assert set(route.destinations) == set(NAMES.destinations)


def test_the_shipped_example_is_valid() -> None:
    assert load_routes(defaults_folder() / "routes.yaml", Names(frozenset({"chest_xray"}), {})).routes


def test_priorities_are_those_of_the_job_table() -> None:
    assert {name.name: number for name, number in PRIORITY.items()} == {p.name: int(p) for p in Priority}
