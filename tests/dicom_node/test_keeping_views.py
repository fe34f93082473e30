"""`wetread purge` and `wetread drift`, as an operator sees them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from dicom_node import app, drift_view, purge_view
from dicom_node.drift import observe
from dicom_node.errors import SettingsError
from dicom_node.settings import load_settings
from dicom_node.storage.jobs import JobState
from tests.dicom_node.keeping.store import DAY, Made, Store
from tests.support import GreyReader


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of a node with three old studies, of which one was not delivered, and one new one."""
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump({"data": "data", "retention": {"high": None, "low": None}}), "utf-8")
    settings = load_settings(path)
    store = Store(app.open_database(settings), app.open_files(settings))
    now = time.time()
    store.make(Made("1.1", now - 40 * DAY, images=3))
    store.make(Made("1.2", now - 35 * DAY))
    store.make(Made("1.3", now - 40 * DAY, delivery=JobState.DEAD))
    store.make(Made("1.4", now))
    store.db.close()
    return path


def test_a_dry_run_shows_what_would_go_and_what_stays_and_touches_nothing(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert purge_view.run(config, dry_run=True, as_json=False) == 0
    shown = capsys.readouterr().out
    assert "2 (5)" in shown
    assert "40 days old" in shown
    assert "stays: 1 studies: a reading or delivery was given up" in shown
    purge_view.run(config, dry_run=True, as_json=True)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["would_go"]["studies"], answer["kept"], answer["removed"]) == (2, {"dead": 1}, None)


def test_a_purge_removes_what_the_dry_run_showed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert purge_view.run(config, dry_run=False, as_json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["removed"] == answer["would_go"]
    purge_view.run(config, dry_run=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["would_go"]["studies"] == 0


def test_streams_are_shown_and_named_before_they_are_forgotten(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(config)
    db = app.open_database(settings)
    with db.write() as conn:
        for number in range(30):
            reading = GreyReader().refuse("nothing")
            observe(conn, study_uid=f"1.{number}", revision=1, reading_name="cxr", reading=reading, scanner="ACME / -", now=1.0)
    db.close()
    assert drift_view.show(config, "acme", "", as_json=False) == 0
    assert "ACME / - · cxr" in capsys.readouterr().out
    with pytest.raises(SettingsError, match="--all"):
        drift_view.reset(config, "", "", everything=False)
    assert drift_view.set_baseline(config, "acme", "", everything=False) == 1
    assert "too few studies" in capsys.readouterr().out
    assert drift_view.reset(config, "", "cxr", everything=False) == 0
    drift_view.show(config, "", "", as_json=False)
    assert "no stream yet" in capsys.readouterr().out
