"""`wetread routes`: what a person sees of a routes file before it is live."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node import app as node
from dicom_node.cli import app
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.reading_json import to_json
from dicom_node.settings import load_settings
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.results import NewResult, save_result
from tests.reporting.samples import reading
from tests.support import save

SETTINGS = """
routes: routes.yaml
destinations: {pacs: {kind: folder, path: out}}
"""
ROUTES = """
routes:
  - name: night films
    when: {modality: DX, hours: "22:00-06:00", calling_ae: ED}
    reading: chest_xray
    priority: STAT
    destinations: [pacs]
  - {name: rest, reading: chest_xray}
results:
  - {name: read, when: {assessed: true}, destinations: [pacs]}
  - {name: unread, when: {assessed: false}, destinations: [pacs]}
"""
NIGHT, DAY = "2026-11-22T23:30:00", "2026-11-22T12:30:00"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "routes.yaml").write_text(ROUTES, "utf-8")
    (tmp_path / "node.yaml").write_text(SETTINGS, "utf-8")
    return tmp_path / "node.yaml"


def say(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["routes", *map(str, words)], catch_exceptions=False)
    return done.exit_code, done.output


@pytest.fixture
def film(tmp_path: Path) -> Path:
    save(phantom_dx(3, [], size=32), tmp_path / "film" / "1.dcm")
    return tmp_path / "film"


def test_a_file_takes_the_route_that_holds_and_is_told_why(config: Path, film: Path) -> None:
    code, out = say("test", film, "--config", config, "--at", NIGHT, "--calling-ae", "ED")
    assert code == 0
    assert "route 'night films': reading chest_xray, priority STAT, to pacs" in out
    assert "yes  hours: 22:00-06:00" in out
    code, out = say("test", film, "--config", config, "--at", DAY, "--calling-ae", "ED", "--json")
    (verdict,) = json.loads(out)
    assert (verdict["route"], verdict["results"]) == ("rest", None)
    assert [one["holds"] for one in verdict["tried"][0]["why"]] == [True, True, False]


def test_another_file_of_routes_is_tried_without_being_live(config: Path, film: Path) -> None:
    other = config.with_name("other.yaml")
    other.write_text("routes: [{name: only, reading: chest_xray}]", "utf-8")
    assert "route 'only'" in say("test", film, "--config", config, "--routes", other)[1]
    assert say("check", "--config", config, "--routes", other) == (0, "1 routes and 0 rules on results: all can be used\n")


def test_a_study_of_the_store_is_held_against_the_rules_on_results(config: Path, film: Path) -> None:
    settings, ds = load_settings(config), phantom_dx(3, [], size=32)
    files = node.open_files(settings)
    kept = files.write_document("film", (film / "1.dcm").read_bytes())
    study = str(ds.StudyInstanceUID)
    row = NewInstance(
        str(ds.SOPInstanceUID),
        str(ds.SOPClassUID),
        "1.2.3",
        study,
        "1.2",
        kept.path,
        kept.size,
        kept.sha256,
        "0",
        modality="DX",
    )
    db = node.open_database(settings)
    with db.write() as connection:
        record_instance(connection, row, time.time())
        save_result(connection, NewResult(study, 1, "chest_xray", to_json(reading())), time.time())
    db.close()
    code, out = say("test", study, "--config", config, "--at", DAY, "--json")
    assert code == 0
    (verdict,) = json.loads(out)
    assert {one["name"]: one["holds"] for one in verdict["results"]} == {"read": True, "unread": False}
    assert "holds" in say("test", study, "--config", config)[1]
