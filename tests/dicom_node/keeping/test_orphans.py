"""Files without a row and rows without a file: found, never deleted in a hurry, brought back where they are needed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from sqlalchemy import delete

from dicom_node.keeping.keeper import Chore, Keeper
from dicom_node.keeping.orphans import BUCKETS, GRACE_S, delete_orphans, sweep
from dicom_node.keeping.purge import Purger
from dicom_node.keeping.retention import Retention
from dicom_node.keeping.rules import NEVER
from dicom_node.retention_settings import RetentionSettings
from dicom_node.storage.chores import drop_chore, hold_chore
from dicom_node.storage.events import EventKind, list_events
from dicom_node.storage.noted_files import note_files
from dicom_node.storage.tables import instances
from tests.dicom_node.keeping.store import Made, Store

NOW = time.time()


def _sweep_all(store: Store, now: float) -> tuple[list[str], list[str]]:
    """Every part once: what was moved, and which rows miss their file."""
    found = [sweep(store.db, store.files, bucket, now) for bucket in range(BUCKETS)]
    moved = [path.relative_to(store.files.root).as_posix() for one in found for path in one.moved]
    return moved, [row.path for one in found for row in one.missing]


def _age(path: Path, seconds: float) -> None:
    os.utime(path, (NOW - seconds, NOW - seconds))


def test_a_file_without_a_row_is_put_aside_after_a_day_and_deleted_long_after(store: Store) -> None:
    store.make(Made("1.1", NOW, document_at=NOW))
    held = store.rows()
    stray = store.files.path("instances/ab/" + "ab" * 16 + "/x-0.dcm")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    for path in store.paths():
        _age(store.files.path(path), 3600)
    assert _sweep_all(store, NOW) == ([], []), "it may be of a transaction that has not ended"
    for path in store.paths():
        _age(store.files.path(path), GRACE_S + 60)
    moved, missing = _sweep_all(store, NOW)
    assert moved == ["orphans/instances/ab/" + "ab" * 16 + "/x-0.dcm"]
    assert missing == []
    assert store.paths() == held
    aside = store.files.path(moved[0])
    assert delete_orphans(store.files, NOW - 86400) == 0, "its time begins with the move"
    assert delete_orphans(store.files, NEVER) == 0
    assert delete_orphans(store.files, NOW + 86400) == 1
    assert not aside.exists()


def test_a_row_without_its_file_is_told_of_and_healed_from_the_orphans(store: Store) -> None:
    """As when the database was set back and then forward again."""
    path = store.receive("1.1", "1.1.1", NOW)
    lost = store.receive("1.1", "1.1.2", NOW)
    aside = store.files.root / "orphans" / path
    aside.parent.mkdir(parents=True)
    store.files.path(path).rename(aside)
    store.files.path(lost).unlink()
    moved, missing = _sweep_all(store, NOW)
    assert (moved, missing) == ([], [lost])
    assert store.files.path(path).exists()
    assert not aside.exists()


def test_what_is_still_to_be_deleted_is_no_orphan(store: Store) -> None:
    path = store.receive("1.1", "1.1.1", NOW)
    _age(store.files.path(path), GRACE_S + 60)
    with store.db.write() as conn:
        conn.execute(delete(instances))
        note_files(conn, [path], "1.1", NOW)
    assert _sweep_all(store, NOW) == ([], [])
    assert store.paths() == {path}


def test_the_keeper_tells_an_operator_of_both(store: Store) -> None:
    lost = store.receive("1.1", "1.1.1", NOW)
    store.files.path(lost).unlink()
    settings = RetentionSettings(high=None, low=None)
    retention = Retention(store.db, store.files, settings, Purger(store.db, store.files))
    for _ in range(BUCKETS):
        retention.sweep(threading.Event())
    with store.db.read() as conn:
        (event,) = list_events(conn, kind=EventKind.PURGED)
    assert event.study_uid == "1.1"
    assert "1 files of the study are missing" in event.text


def test_one_machine_keeps_house_and_another_stands_in_when_it_is_gone(store: Store) -> None:
    assert hold_chore(store.db, "keeper", "a", 60, 100.0)
    assert hold_chore(store.db, "keeper", "a", 60, 110.0), "who does it goes on"
    assert not hold_chore(store.db, "keeper", "b", 60, 120.0)
    assert hold_chore(store.db, "keeper", "b", 60, 171.0), "its time has run out"
    assert not hold_chore(store.db, "keeper", "a", 60, 172.0)
    drop_chore(store.db, "keeper", "b")
    assert hold_chore(store.db, "keeper", "a", 60, 173.0)


def test_a_chore_that_fails_holds_up_no_other_and_is_done_again_in_its_turn(store: Store) -> None:
    done: list[str] = []
    now = [0.0]

    def broken(_stop: threading.Event) -> None:
        done.append("broken")
        raise ValueError

    chores = (Chore("broken", 10, broken), Chore("good", 60, lambda _stop: done.append("good")))
    keeper = Keeper(store.db, chores, "me", clock=lambda: now[0])
    for at in (0.0, 5.0, 11.0, 61.0):
        now[0] = at
        keeper.step(threading.Event())
    assert done == ["broken", "good", "broken", "broken", "good"]
