"""Routes tried on the page: the same verdicts as `wetread routes test`, and nothing that a file could do to the node."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dicom_node import app as node
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.views.routes import judge_stored
from dicom_node.web.parts import Parts
from dicom_node.web.routes_page import LONGEST, candidate, trial

from .conftest import form_key, log_in
from .stocked import Stock

ROUTES = """
routes:
  - {name: night films, when: {modality: DX, hours: "22:00-06:00"}, reading: chest_xray, priority: STAT, destinations: [pacs]}
  - {name: rest, reading: chest_xray, destinations: [his]}
results:
  - {name: unread, when: {assessed: false}, destinations: [his]}
"""
NIGHT, DAY = "2026-11-02T23:30", "2026-11-02T12:00"


@pytest.mark.parametrize(("at", "route"), [(NIGHT, "night films"), (DAY, "rest")])
def test_page_and_json_tell_what_the_node_would_do(browser: TestClient, stocked: Stock, at: str, route: str) -> None:
    log_in(browser)
    form = {"form_key": form_key(browser), "text": ROUTES, "study": stocked.delivered, "at": at}
    (verdict,) = browser.post("/routes/try", data=form, headers={"accept": "application/json"}).json()
    assert (verdict["route"], verdict["tried"][0]["holds"]) == (route, at == NIGHT)
    assert [(one["name"], one["holds"]) for one in verdict["results"]] == [("unread", True)]
    shown = browser.post("/routes/try", data=form).text
    assert f'<span class="badge good">{route}</span>' in shown
    assert "hours: 22:00-06:00" in shown


def test_it_is_the_same_judgement_as_the_command_s(parts: Parts, settings: Settings, stocked: Stock, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(ROUTES, "utf-8")
    routes = node.routes_of(settings, tmp_path / "routes.yaml")
    at = datetime.fromisoformat(NIGHT).astimezone()
    (here,) = trial(parts, ROUTES, [stocked.dead], at)
    there = judge_stored(stocked.dead, parts.db, parts.files.path, routes, at)
    assert json.dumps(asdict(here)) == json.dumps(asdict(there))


def test_a_file_comes_before_what_was_typed(browser: TestClient, stocked: Stock) -> None:
    log_in(browser)
    form = {"form_key": form_key(browser), "text": "broken", "study": stocked.delivered, "at": DAY}
    answer = browser.post("/routes/try", data=form, files={"file": ("routes.yaml", ROUTES.encode(), "text/yaml")})
    assert answer.status_code == 200
    assert '<span class="badge good">rest</span>' in answer.text


def test_without_text_those_in_force_are_tried(browser: TestClient, stocked: Stock) -> None:
    log_in(browser)
    answer = browser.post("/routes/try", data={"form_key": form_key(browser), "also": f"{stocked.delivered} {stocked.dead}"})
    assert answer.text.count('<span class="badge good">everything</span>') == 2


@pytest.mark.usefixtures("stocked")
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("routes: [", "cannot be read as YAML", id="no YAML"),
        pytest.param("just words", "top level", id="no routes"),
        pytest.param("routes: [{name: a, reading: none}]", "reading 'none' is not in the settings", id="an unknown reading"),
        pytest.param(
            "routes: [{name: a, reading: chest_xray, destinations: [moon]}]", "destination 'moon' is not", id="nowhere to send"
        ),
        pytest.param("routes: &a [*a]", "these routes", id="a list within itself"),
        pytest.param("a: !!python/object/apply:os.system [id]", "could not determine a constructor", id="code"),
        pytest.param(f"a: &a [x]\nb: [{', '.join(['*a'] * 21)}]", "more than 20 aliases", id="aliases that grow without end"),
        pytest.param(f"# {'x' * LONGEST}", "larger than 256 KiB", id="too large"),
    ],
)
def test_routes_that_cannot_be_used_are_told_and_nothing_happens(browser: TestClient, text: str, fault: str) -> None:
    log_in(browser)
    answer = browser.post("/routes/try", data={"form_key": form_key(browser), "text": text})
    assert answer.status_code == 422
    assert fault in answer.text.replace("&#39;", "'")


def test_a_study_the_node_does_not_hold_is_told(browser: TestClient) -> None:
    log_in(browser)
    answer = browser.post("/routes/try", data={"form_key": form_key(browser), "also": "1.2.3"})
    assert answer.status_code == 422
    assert "1.2.3: neither a file nor a study of the node" in answer.text


def test_trying_changes_no_file_and_no_job(parts: Parts, settings: Settings, db: Database, stocked: Stock) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in settings.folder.glob("*.yaml"))
    routes = parts.routes()
    trial(parts, ROUTES, [stocked.delivered, stocked.waiting], datetime.now().astimezone())
    assert candidate(parts, ROUTES) != parts.routes()
    assert parts.routes() == routes
    assert sorted((path.name, path.stat().st_mtime_ns) for path in settings.folder.glob("*.yaml")) == before
    assert db.now() > 0
