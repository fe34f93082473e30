"""Counts that survive restarts, are made once, and add up over processes; on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from dicom_node import gpu, measures, presence
from dicom_node.errors import StorageBusy
from dicom_node.measures import Delta, Measures
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, list_events, newest_of, record_event
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.jobs import JobKind, NewJob, claim, complete, enqueue, rerun
from dicom_node.storage.measures import add_measures, all_measures, fold
from dicom_node.storage.nodes import list_nodes

NOW = 1_000_000.0


def counted(db: Database, name: str) -> dict[str, float]:
    """Labels and bucket to number."""
    with db.read() as conn:
        return {f"{one.labels}{one.bucket}": one.amount for one in all_measures(conn) if one.name == name}


def test_amounts_add_up(db: Database) -> None:
    for amount in (1.0, 2.5):
        with db.write() as conn:
            add_measures(conn, [Delta("a", "{}", "", amount), Delta("a", "{}", "sum", 1)])
    assert counted(db, "a") == {"{}": 3.5, "{}sum": 2}


def test_many_processes_count_at_once(db: Database) -> None:
    def count() -> None:
        for _ in range(20):
            one = Measures()
            for step in reversed(measures.STEPS):
                one.observe(measures.STEP, 0.2, step=step)
            with db.write() as conn:
                add_measures(conn, one.take())

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = counted(db, measures.STEP.name)
    assert {found[key] for key in found if key.endswith("0.25")} == {80}


def test_events_are_counted_once_whoever_counts(db: Database) -> None:
    with db.write() as conn:
        for kind, severity in (
            (EventKind.CONFLICT, Severity.ALERT),
            (EventKind.CONFLICT, Severity.ALERT),
            (EventKind.FAILURE, Severity.INFO),
        ):
            record_event(conn, NewEvent(kind, "x", severity), NOW)
    fold(db, NOW + 1)
    assert counted(db, measures.EVENTS.name) == {}  # an older one may still be under way
    for later in (10, 11, 5000):
        fold(db, NOW + later)
    assert counted(db, measures.EVENTS.name) == {
        '{"kind": "conflict", "severity": "alert"}': 2,
        '{"kind": "failure", "severity": "info"}': 1,
    }


@pytest.fixture
def delivered(db: Database) -> tuple[int, ...]:
    """The last image came at NOW; three documents were delivered 3, 8 and 40 s later."""
    fold(db, NOW - 100)
    row = NewInstance("1.1", "1.2", "1.3", "1.4", "1.5", "p", 1, "0", "0")
    with db.write() as conn:
        record_instance(conn, row, NOW)
        for number in range(3):
            enqueue(conn, NewJob(JobKind.DELIVER, "pacs", f"d{number}", "1.4", {"document": str(number)}), NOW + 2)
    for after in (3, 8, 40):
        (job,) = claim(db, JobKind.DELIVER, "pacs", "me", 1, 60, NOW + after)
        with db.write() as conn:
            complete(conn, job, "me", NOW + after)
    return (1, 2, 3)


def test_deliveries_are_timed_from_the_last_image(db: Database, delivered: tuple[int, ...]) -> None:
    fold(db, NOW + 20)  # the third is not done yet as this process sees it
    fold(db, NOW + 60)
    fold(db, NOW + 90)
    found = counted(db, measures.STEP.name)
    assert found['{"step": "first_result"}sum'] == pytest.approx(3)
    assert found['{"step": "total"}sum'] == pytest.approx(3 + 8 + 40)
    assert found['{"step": "delivery"}sum'] == pytest.approx(1 + 6 + 38)
    done = '{"destination": "pacs", "outcome": "delivered"}'
    assert counted(db, measures.DELIVERIES.name) == {done: len(delivered)}


def test_what_is_delivered_again_counts_again(db: Database, delivered: tuple[int, ...]) -> None:
    fold(db, NOW + 60)
    rerun(db, delivered[0], NOW + 70)
    (job,) = claim(db, JobKind.DELIVER, "pacs", "me", 1, 60, NOW + 80)
    with db.write() as conn:
        complete(conn, job, "me", NOW + 80)
    fold(db, NOW + 100)
    assert set(counted(db, measures.DELIVERIES.name).values()) == {4}


def test_a_process_is_known_while_it_lives_and_its_counts_stay(db: Database) -> None:
    one = Measures()
    here = presence.Presence(db, "deliver", "starting", counted=one)
    one.count(measures.GPU_OOM)
    here.beat()
    here.tell("ready")
    here.beat()
    with db.read() as conn:
        (row,) = list_nodes(conn)
    assert (row.role, row.state) == ("deliver", "ready")
    one.count(measures.GPU_OOM)
    here.leave()
    with db.read() as conn:
        assert list_nodes(conn) == ()
    assert counted(db, measures.GPU_OOM.name) == {"{}": 2}


def test_what_the_database_could_not_take_is_not_lost(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Measures()
    here = presence.Presence(db, "work", "ready", counted=one)
    one.count(measures.GPU_OOM, 2)
    with monkeypatch.context() as away:
        away.setattr(Database, "write", _busy)
        with pytest.raises(StorageBusy):
            here.beat()
    one.count(measures.GPU_OOM)
    here.beat()
    assert counted(db, measures.GPU_OOM.name) == {"{}": 3}


def test_a_device_that_tells_nonsense_does_not_silence_the_process(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '0, \\377, 1, 2'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    presence.Presence(db, "work", "ready", look=gpu.set_gauges, counted=Measures()).beat()
    with db.read() as conn:
        assert len(list_nodes(conn)) == 1


def _busy(_: Database) -> None:
    raise StorageBusy("locked")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        pytest.param(lambda conn: newest_of(conn, Severity.ALERT, NOW, 20), "ix_events_severity", id="alerts"),
        pytest.param(lambda conn: list_events(conn, 20, study_uid="1.4"), "ix_events_study_uid", id="of a study"),
    ],
)
def test_events_of_years_are_not_all_looked_at(tmp_path: Path, query: Callable[[Connection], object], index: str) -> None:
    """A page that is asked for every ten seconds must not read the whole table."""
    plans: list[str] = []
    with closing(Database.open(tmp_path / "a.sqlite")) as db, db.read() as conn:

        def explain(connection: Connection, _: object, statement: str, parameters: object, *__: object) -> None:
            if statement.startswith("SELECT"):
                plans.extend(str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))  # type: ignore[arg-type]

        event.listen(conn, "before_cursor_execute", explain)
        query(conn)
    assert index in plans[0]
    assert "TEMP B-TREE" not in " ".join(plans)
