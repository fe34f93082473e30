"""`/livez`, `/healthz`, `/readyz`: by status code and by reason, for each part that may fail."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from dicom_node.settings import Settings
from dicom_node.storage import nodes
from dicom_node.storage.database import Database
from dicom_node.storage.nodes import NodeRow
from dicom_node.storage.owner import current_owner, host_name
from dicom_node.web import health
from dicom_node.web.app import build

from .conftest import of


@pytest.fixture
def door(settings: Settings) -> Iterator[tuple[Settings, socket.socket]]:
    """Settings whose listener is this socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listener = settings.listener.model_copy(update={"port": listening.getsockname()[1]})
        yield settings.model_copy(update={"listener": listener}), listening


@pytest.fixture
def node(door: tuple[Settings, socket.socket], db: Database, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(health, "_KEPT_S", 0.0)
    for role in ("listen", "work", "deliver"):
        lives(db, role)
    return TestClient(build(of(door[0], db, None)), base_url="http://127.0.0.1:8080")


def lives(db: Database, role: str, state: str = "ready", seen_at: float | None = None) -> None:
    now = time.time()
    with db.write() as conn:
        row = NodeRow(current_owner(role), host_name(), role, "0.1.0", now - 60, now if seen_at is None else seen_at, state)
        nodes.heartbeat(conn, row)


def failed(node: TestClient, path: str) -> dict[str, str]:
    answer = node.get(path)
    told = answer.json()
    assert answer.status_code == (200 if told["ok"] else 503)
    return {name: part["reason"] for name, part in told["parts"].items() if not part["ok"]}


def test_a_whole_node_is_healthy_and_ready(node: TestClient) -> None:
    assert node.get("/livez").json()["ok"] is True
    assert failed(node, "/healthz") == {}
    assert failed(node, "/readyz") == {}
    assert set(node.get("/readyz").json()["parts"]) == {"database", "files", "listener", "worker", "deliverer"}


def test_a_check_that_breaks_is_told_and_made_again(node: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    at_head = health.at_head
    monkeypatch.setattr(health, "at_head", lambda _: 1 // 0)
    assert failed(node, "/readyz") == {"database": "failed (ZeroDivisionError)"}
    monkeypatch.setattr(health, "at_head", at_head)
    assert failed(node, "/readyz") == {}


def test_a_worker_that_loads_its_models_lives_and_is_not_ready(node: TestClient, db: Database) -> None:
    lives(db, "work", "loading models")
    assert failed(node, "/healthz") == {}
    assert failed(node, "/readyz") == {"worker": "its models are not loaded yet"}


@pytest.mark.parametrize(("role", "part"), [("listen", "listener"), ("work", "worker"), ("deliver", "deliverer")])
def test_a_process_that_says_nothing_is_missed(node: TestClient, db: Database, role: str, part: str) -> None:
    lives(db, role, seen_at=time.time() - 40)  # stopped, or cut from the database
    assert failed(node, "/healthz") == {role: "no living process"}
    assert failed(node, "/readyz") == {part: "no living process"}


def test_a_listener_that_takes_no_connection_is_not_ready(node: TestClient, door: tuple[Settings, socket.socket]) -> None:
    door[1].close()
    assert failed(node, "/readyz") == {"listener": "takes no connection (Connection refused)"}
    assert failed(node, "/healthz") == {}


def test_too_little_room_is_not_ready(door: tuple[Settings, socket.socket], db: Database, node: TestClient) -> None:
    assert node
    short = door[0].listener.model_copy(update={"watermark_mb": 1 << 40})
    small = TestClient(build(of(door[0].model_copy(update={"listener": short}), db, None)), base_url="http://localhost")
    assert failed(small, "/readyz") == {"files": "less room than the watermark: images are refused"}


def test_a_database_of_another_version_is_not_ready(node: TestClient, settings: Settings) -> None:
    import sqlite3

    with sqlite3.connect(settings.data_folder / "wetread.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert failed(node, "/readyz") == {"database": "is of another version of the node"}


def test_a_part_that_hangs_holds_up_the_answer_for_a_moment_only(
    node: TestClient, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LONGEST_S", 0.3)
    with db.write():
        monkeypatch.setattr(health, "at_head", lambda _: time.sleep(1.5) or True)
        began = time.monotonic()
        assert "database" in failed(node, "/readyz")
        assert time.monotonic() - began < 1.2
    time.sleep(1.5)


def test_what_is_told_names_no_machine_path_or_address(node: TestClient, db: Database, settings: Settings) -> None:
    lives(db, "work", seen_at=0)
    for path in ("/healthz", "/readyz"):
        text = node.get(path).text
        for told in (host_name(), str(settings.data_folder), "127.0.0.1", "sqlite"):
            assert told not in text.replace('"listen', "")
