"""`wetread status` and `wetread users`, over a real database and a real file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node import app as node
from dicom_node import status_view, users
from dicom_node.cli import app
from dicom_node.errors import SettingsError
from dicom_node.settings import load_settings
from dicom_node.storage import nodes
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import JobKind, NewJob, enqueue
from dicom_node.storage.nodes import NodeRow
from dicom_node.storage.outbox import DestinationState, save_state
from dicom_node.storage.owner import current_owner, host_name
from dicom_node.views.status import look
from dicom_node.web.accounts import Role, read_accounts

DOWN = "PACS: no [association]"  # brackets are no markup


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.yaml"
    tree = "data: data\ndestinations: {pacs: {kind: folder, path: out}}\nlistener: {watermark_mb: 1}\n"
    tree += "web: {users_file: users.yaml}\n"
    path.write_text(tree, "utf-8")
    return path


@pytest.fixture
def db(config: Path) -> Iterator[Database]:
    """All that a node needs runs."""
    with closing(node.open_database(load_settings(config))) as opened:
        for role in ("listen", "work", "deliver"):
            tell(opened, role)
        yield opened


def tell(db: Database, role: str, seen_s: float = 0.0, owner: str = "") -> None:
    now = db.now()
    with db.write() as conn:
        row = NodeRow(owner or current_owner(role), host_name(), role, "0.1.0", now - 60, now - seen_s, "ready")
        nodes.heartbeat(conn, row)


def test_a_whole_node_needs_no_hand(config: Path, db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert db
    assert status_view.show(config, as_json=False) == 0
    out = capsys.readouterr().out
    assert "nothing needs a hand" in out
    assert "pacs" in out
    assert "flows" in out


def test_a_node_that_never_ran_needs_one(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_view.show(config, as_json=False) == 1
    out = capsys.readouterr().out
    for role in ("listens", "works", "delivers"):
        assert f"no process of the node {role}" in out


def test_what_is_wrong_is_named_with_what_to_do(config: Path, db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    save_state(db, DestinationState("pacs", host_name(), "open", 7, db.now(), db.now() + 30, DOWN))
    with db.write() as conn:
        enqueue(conn, NewJob(JobKind.DELIVER, "gone", "d:1", "1.2", {"document": "1"}), db.now())
        enqueue(conn, NewJob(JobKind.READ, "read", "r:1", "1.2", {}, priority=0), db.now() - 400)
        enqueue(conn, NewJob(JobKind.READ, "read", "r:2", "1.3", {}, priority=20), db.now() - 400)
    assert status_view.show(config, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["what"] for one in told["problems"]] == [
        "a study waits for its reading for 6 min",
        "1 document waits for gone, which the settings lack",
        f"pacs is down: {DOWN}",
    ]
    assert status_view.show(config, as_json=False) == 1
    assert DOWN in capsys.readouterr().out


@pytest.mark.parametrize(
    ("owner", "seen_s", "alive"),
    [
        pytest.param("", 5, True, id="of this machine, lives"),
        pytest.param("elsewhere~x~y:1:2:listen", 5, True, id="of another machine, heard of just now"),
        pytest.param("elsewhere~x~y:1:2:listen", 40, False, id="of another machine, silent"),
        pytest.param("", 40, False, id="of this machine, stopped"),
        pytest.param(f"{':'.join(current_owner().split(':')[:1])}:4194304:1", 0, False, id="of this machine, gone"),
    ],
)
def test_whether_a_process_lives(config: Path, db: Database, owner: str, seen_s: float, alive: bool) -> None:
    with db.write() as conn:
        nodes.remove(conn, current_owner("listen"))
    tell(db, "listen", seen_s, owner)
    (process,) = [one for one in look(load_settings(config), db).processes if one.role == "listen"]
    assert process.alive is alive


@pytest.mark.parametrize(("role", "status"), [("work", 0), ("web", 1)])
def test_one_part_of_this_machine_alone(config: Path, db: Database, role: str, status: int) -> None:
    assert db
    done = CliRunner().invoke(app, ["status", "--config", str(config), "--alive", role])
    assert done.exit_code == status
    assert len(done.stdout.splitlines()) == 1
    with pytest.raises(SettingsError, match="listen, work, deliver, web"):
        status_view.lives(config, "everything")


def test_done_work_of_years_does_not_slow_it_down(config: Path, db: Database) -> None:
    """Only what is not done is looked at: the index on the state leads there."""
    from sqlalchemy import text

    from dicom_node.storage.job_counts import UNFINISHED

    with db.read() as conn:
        states = ", ".join(f"'{state.value}'" for state in UNFINISHED)
        plan = conn.execute(
            text(f"EXPLAIN QUERY PLAN SELECT count(*) FROM jobs WHERE state IN ({states}, 'dead') GROUP BY kind")
        )
        assert "ix_jobs_state" in " ".join(str(row) for row in plan)
    assert look(load_settings(config), db).queues == ()


def test_people_and_keys_are_made_shown_and_removed(config: Path, tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("correct horse battery\n")
    run = CliRunner().invoke
    done = run(app, ["users", "set", "anna", "--role", "operator", "--config", str(config), "--password-file", str(word)])
    assert done.exit_code == 0, done.output
    key = run(app, ["users", "key", "prometheus", "--config", str(config)]).stdout.strip()
    accounts = read_accounts(tmp_path / "users.yaml")
    assert (accounts.login("anna", "correct horse battery"), accounts.login("anna", "correct horse")) == (
        accounts.login("anna", "correct horse battery"),
        None,
    )
    holder = accounts.holder(key)
    assert holder is not None
    assert (holder.name, holder.role) == ("prometheus", Role.METRICS)
    listed = run(app, ["users", "list", "--config", str(config)]).stdout.splitlines()
    assert listed == ["anna: operator, password", "prometheus: metrics, key"]
    assert run(app, ["users", "remove", "anna", "--config", str(config)]).exit_code == 0
    assert read_accounts(tmp_path / "users.yaml").login("anna", "correct horse battery") is None


@pytest.mark.parametrize(
    ("name", "role", "password", "fault"),
    [
        ("anna", "viewer", "short", "at least 12"),
        ("anna smith", "viewer", "long enough to pass", "no name"),
        ("anna", "king", "long enough to pass", "viewer, operator"),
        ("anna", "metrics", "long enough to pass", "viewer, operator"),
    ],
)
def test_what_cannot_be_a_user_is_refused(config: Path, name: str, role: str, password: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        users.set_user(config, name, role, password)


def test_watching_goes_on_until_interrupted(
    config: Path, db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    assert db
    monkeypatch.setattr(time, "sleep", pause)
    assert status_view.watch(config) == 0
    assert len(looks) == 2
    assert "nothing needs a hand" in capsys.readouterr().out
