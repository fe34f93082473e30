"""Wake-ups: quick, never missed between looking and waiting, and only ever a help."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.storage import folder_watch
from dicom_node.storage.bell import READ_TOPIC, Bell, FileBells, delivery_topic
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import JobKind, NewJob, claim, complete, enqueue, release, rerun
from dicom_node.storage.outbox import hasten, rerun_dead

LONG_S = 20.0
STOP = threading.Event()


def _job(key: str, kind: JobKind = JobKind.READ, queue: str = "read", not_before: float = 0.0) -> NewJob:
    return NewJob(kind, queue, key, "1.2", {}, not_before=not_before)


def _add(db: Database, job: NewJob, now: float = 1.0) -> None:
    with db.write() as conn:
        enqueue(conn, job, now)


@contextmanager
def _rung(db: Database, topic: str) -> Iterator[None]:
    """What the body commits rings ``topic`` well before a wait would be over."""
    bell = db.bell(topic)
    time.sleep(0.3)  # the listening thread is ready
    seen = bell.rung
    yield
    began = time.monotonic()
    bell.wait(seen, LONG_S, STOP)
    assert bell.rung > seen
    assert time.monotonic() - began < LONG_S / 4


def test_new_work_rings_its_topic_only(db: Database) -> None:
    other = db.bell(delivery_topic("pacs"))
    with _rung(db, READ_TOPIC):
        seen = other.rung
        _add(db, _job("a"))
    assert other.rung == seen


def test_work_for_later_and_known_work_and_undone_work_ring_nothing(db: Database) -> None:
    _add(db, _job("known"))
    bell = db.bell(READ_TOPIC)
    time.sleep(0.3)
    seen = bell.rung
    _add(db, _job("later", not_before=99.0))
    _add(db, _job("known"))
    with pytest.raises(ZeroDivisionError), db.write() as conn:  # noqa: PT012 - one transaction, undone
        enqueue(conn, _job("undone"), 1.0)
        raise ZeroDivisionError
    bell.wait(seen, 0.3, STOP)
    assert bell.rung == seen


def test_work_given_back_or_run_again_rings_too(db: Database) -> None:
    topic = delivery_topic("pacs")
    _add(db, _job("d", JobKind.DELIVER, "pacs"))
    (job,) = claim(db, JobKind.DELIVER, "pacs", "a", 1, 60.0, 2.0)
    with _rung(db, topic):
        assert release(db, [job], "a") == 1
    with _rung(db, topic):
        hasten(db, "pacs", 5.0)
    with _rung(db, topic):
        rerun_dead(db, "pacs", 5.0)
    (job,) = claim(db, JobKind.DELIVER, "pacs", "a", 1, 60.0, 6.0)
    with db.write() as conn:
        complete(conn, job, "a", 7.0)
    with _rung(db, topic):
        assert rerun(db, job.id, 9.0)


def _add_timed(url: str) -> None:
    database = Database.open(url)
    for number in range(4):
        time.sleep(0.15)
        _add(database, _job(f"k{number}"), time.time())
    database.close()


def test_a_worker_learns_of_what_another_process_commits(db: Database, db_url: str) -> None:
    """How quickly is measured by benchmarks/workers.py; here the cores are shared with other tests."""
    bell, waits = db.bell(READ_TOPIC), []
    child = multiprocessing.get_context("spawn").Process(target=_add_timed, args=(db_url,))
    child.start()
    while len(waits) < 4:
        seen = bell.rung
        for job in claim(db, JobKind.READ, None, "a", 4, 60.0, time.time()):
            waits.append(time.time() - job.created_at)
        if len(waits) < 4:
            bell.wait(seen, LONG_S, STOP)
            assert bell.rung > seen
    child.join()
    assert sorted(waits)[len(waits) // 2] < LONG_S / 10


def test_what_is_rung_before_the_wait_is_not_missed() -> None:
    bell = Bell()
    seen = bell.rung
    bell.ring()
    began = time.monotonic()
    bell.wait(seen, LONG_S, STOP)
    assert time.monotonic() - began < 1


def test_a_waiter_stops_when_told() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    Bell().wait(0, LONG_S, stop)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("there", [True, False], ids=["inotify", "no inotify"])
def test_a_touched_file_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    if not there:
        monkeypatch.setattr(folder_watch, "_watching", lambda _: -1)
    (tmp_path / "read").touch()
    bells = FileBells(tmp_path)
    bell = bells.bell("read")
    time.sleep(0.3)
    seen = bell.rung
    bells.ring("read")
    began = time.monotonic()
    bell.wait(seen, LONG_S, STOP)
    assert bell.rung > seen
    assert time.monotonic() - began < LONG_S / 4
    bells.close()


def test_a_folder_that_cannot_be_watched_is_looked_at(tmp_path: Path) -> None:
    assert folder_watch._watching(tmp_path / "nothing") == -1
