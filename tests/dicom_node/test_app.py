"""The composition root: what it makes on disk, and what it asks of a study."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from dicom_node import app
from dicom_node.app import delivering, working
from dicom_node.delivery.destinations import patience_seconds
from dicom_node.errors import SettingsError
from dicom_node.routing import StudyFacts, live
from dicom_node.settings import DicomDestination, FolderDestination, Settings
from dicom_node.storage.events import Severity, list_events
from dicom_node.storage.jobs import JobKind, NewJob, enqueue


def site(folder: Path, data: str = "data") -> Settings:
    return Settings(folder=folder, data=Path(data))


def test_the_data_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    app.open_database(site(tmp_path)).close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_an_unusable_data_folder_is_told_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    for use in (app.open_database, app.open_files, app.installation_uid):
        with pytest.raises(SettingsError, match=r"key 'data'.*cannot be used"):
            use(site(tmp_path))


def test_the_installation_keeps_its_uid(tmp_path: Path) -> None:
    first = app.installation_uid(site(tmp_path))
    assert first == app.installation_uid(site(tmp_path))
    assert first.startswith("2.25.")
    assert len(first) <= 64
    assert first != app.installation_uid(site(tmp_path / "another"))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["device.uid"]


def test_without_a_routes_file_everything_goes_everywhere(tmp_path: Path) -> None:
    route = app.routes_of(site(tmp_path)).match(StudyFacts())
    assert route.reading == "chest_xray"


def test_a_missing_bundle_is_told_before_anything_starts(tmp_path: Path) -> None:
    from inference.errors import BundleError

    settings = Settings.model_validate({"folder": tmp_path, "readings": {"chest": {"triage": "models/none"}}})
    with pytest.raises(BundleError, match="wetread models import"):
        app.check_models(settings)


def test_a_lease_outlasts_the_slowest_delivery() -> None:
    slow = DicomDestination(kind="dicom", host="127.0.0.1", port=104, ae_title="SLOW", timeout_s=300)
    assert patience_seconds([slow]) > 3 * slow.timeout_s
    assert patience_seconds([]) > 60
    assert patience_seconds([FolderDestination(kind="folder", path=Path("out"))]) > 60


def test_deliveries_without_a_destination_are_told(tmp_path: Path) -> None:
    settings = site(tmp_path)
    db = app.open_database(settings)
    with db.write() as connection:
        enqueue(connection, NewJob(JobKind.DELIVER, "old-pacs", "k", "1.2", {"document": "1.2.3"}), 0.0)
    with capture_logs() as told:
        delivering.tell_of_unserved(db, settings)
    db.close()
    assert [(line["destination"], line["count"]) for line in told] == [("old-pacs", 1)]


def test_a_reading_that_left_the_settings_is_told_by_name() -> None:
    with pytest.raises(SettingsError, match="'old' of the job is no longer in the settings"):
        working.engine_of({}, "old")


def test_a_mistake_in_the_routes_is_told_also_where_they_are_asked_for_in_a_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the listener does, which plans a study in the transaction that opens its revision."""
    monkeypatch.setattr(live, "LOOK_S", 0.0)
    settings = Settings.model_validate({"folder": tmp_path, "routes": "routes.yaml"})
    good = "routes: [{name: all, reading: chest_xray}]\n"
    (tmp_path / "routes.yaml").write_text(good)
    with closing(app.open_database(settings)) as db:
        routes = app.live_routes(settings, db)
        (tmp_path / "routes.yaml").write_text("routes: [")

        def plan() -> None:
            with db.write():
                assert routes.current().match(StudyFacts()).name == "all"

        asking = threading.Thread(target=plan, daemon=True)
        asking.start()
        asking.join(20)
        assert not asking.is_alive()
        for thread in threading.enumerate():
            if thread.name == "routes-alert":
                thread.join(20)
        with db.read() as conn:
            (event,) = list_events(conn)
    assert "last good ones stay in force" in event.text
    assert event.severity is Severity.ALERT


def test_delivering_ends_when_it_cannot_begin(tmp_path: Path) -> None:
    """Its parent starts it again; a process that only went on listening for reports would deliver nothing, in silence."""
    pacs = {"kind": "dicom", "host": "127.0.0.1", "port": 104, "ae_title": "PACS", "commitment": True}
    tree = {
        "data": "data",
        "commitment": {"host": "127.0.0.1", "port": 0},
        "destinations": {"pacs": pacs},
        "tracing": {"endpoint": "http://127.0.0.1:1/v1/traces", "headers_file": "none.txt"},
    }
    (tmp_path / "node.yaml").write_text(yaml.safe_dump(tree), "utf-8")
    command = [sys.executable, "-m", "dicom_node.cli", "deliver", "--config", str(tmp_path / "node.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "tracing.headers_file" in ended.stderr
