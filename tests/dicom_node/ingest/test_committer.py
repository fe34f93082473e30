"""Group commit: one transaction for all that wait, no one taken down by another, nothing overwritten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import StorageBusy, StorageError
from dicom_node.ingest import committer as module
from dicom_node.ingest.committer import Committer
from dicom_node.storage.arriving import ArrivingFile
from dicom_node.storage.database import Database
from dicom_node.storage.events import list_events
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import InstanceRow, NewInstance, find_instance


class Counted:
    """A database that counts its transactions and makes each take a while."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.transactions = 0
        self.fail: Exception | None = None

    def now(self) -> float:
        return self.db.now()

    @contextmanager
    def write(self) -> Iterator[Any]:
        with self.db.write() as conn:
            self.transactions += 1
            time.sleep(0.05)
            yield conn
            if self.fail is not None:
                raise self.fail

    def read(self) -> Any:
        return self.db.read()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = Database.open(tmp_path / "node.sqlite")
    yield db
    db.close()


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


def _arrived(files: FileStore, data: bytes) -> ArrivingFile:
    file = files.arriving(b"head")
    file.write(data)
    file.finish(durable=True)
    return file


def _new(uid: str, data: bytes, study: str = "1.2", patient: str = "p") -> NewInstance:
    return NewInstance(uid, "1.2.840.10008.5.1.4.1.1.7", "1.2.1", study, "1.2.840.10008.1.2.1", "", len(data), "", patient)


def _rows(db: Database, uid: str) -> tuple[InstanceRow, ...]:
    with db.read() as conn:
        return find_instance(conn, uid)


def _together(calls: list[Callable[[], None]]) -> list[BaseException | None]:
    """Run all at once; what each raised."""
    raised: list[BaseException | None] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            calls[number]()
        except StorageError as error:
            raised[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return raised


def test_those_that_wait_share_a_transaction(db: Database, files: FileStore) -> None:
    counted = Counted(db)
    committer = Committer(counted, files)  # type: ignore[arg-type]

    def store(number: int) -> Callable[[], None]:
        data = bytes([number]) * 10
        return lambda: committer.commit(_new(f"1.{number + 1}", data), _arrived(files, data))

    assert _together([store(number) for number in range(40)]) == [None] * 40
    assert counted.transactions < 20
    for number in range(40):
        (row,) = _rows(db, f"1.{number + 1}")
        assert files.path(row.path).read_bytes() == b"head" + bytes([number]) * 10
    assert list((files.root / "spool").iterdir()) == []


def test_one_uid_at_once_from_many_is_told_apart_by_its_bytes(db: Database, files: FileStore) -> None:
    committer = Committer(Counted(db), files)  # type: ignore[arg-type]
    contents = [b"one", b"two", b"one", b"two", b"six"] * 3

    def store(data: bytes) -> Callable[[], None]:
        return lambda: committer.commit(_new("1.2.3", data), _arrived(files, data))

    assert _together([store(data) for data in contents]) == [None] * 15
    rows = _rows(db, "1.2.3")
    assert sorted(files.path(row.path).read_bytes() for row in rows) == [b"headone", b"headsix", b"headtwo"]
    assert [(row.copy, row.set_aside) for row in rows] == [(0, False), (1, True), (2, True)]
    assert list((files.root / "spool").iterdir()) == []


def test_one_that_cannot_be_placed_does_not_take_the_others_down(
    db: Database, files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    committer = Committer(Counted(db), files)  # type: ignore[arg-type]
    real = ArrivingFile.move_to

    def move_to(self: ArrivingFile, relative: str) -> str:
        if self.size == 13:
            raise StorageError("its folder cannot be used")
        return real(self, relative)

    monkeypatch.setattr(ArrivingFile, "move_to", move_to)

    def store(number: int) -> Callable[[], None]:
        data = b"x" * number
        return lambda: committer.commit(_new(f"1.{number}", data), _arrived(files, data))

    raised = _together([store(number) for number in range(10, 20)])
    assert [type(error).__name__ for error in raised if error] == ["StorageError"]
    assert raised[3] is not None
    assert [len(_rows(db, f"1.{number}")) for number in range(10, 20)] == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1]


def test_a_commit_that_fails_records_nothing_and_the_same_place_is_used_again(db: Database, files: FileStore) -> None:
    counted = Counted(db)
    committer = Committer(counted, files)  # type: ignore[arg-type]
    counted.fail = StorageBusy("the disk of the database is full")
    with pytest.raises(StorageBusy):
        committer.commit(_new("1.2.3", b"abc"), _arrived(files, b"abc"))
    assert _rows(db, "1.2.3") == ()
    counted.fail = None
    committer.commit(_new("1.2.3", b"abc"), _arrived(files, b"abc"))
    (row,) = _rows(db, "1.2.3")
    assert [str(path.relative_to(files.root)) for path in files.root.glob("instances/*/*/*")] == [row.path]


def test_a_file_that_no_row_knows_is_not_overwritten(db: Database, files: FileStore) -> None:
    """The database was set back to an older state: what it forgot stays."""
    committer = Committer(db, files)
    committer.commit(_new("1.2.3", b"abc"), _arrived(files, b"abc"))
    (first,) = _rows(db, "1.2.3")
    other = Database.open(files.root / "younger.sqlite")
    Committer(other, files).commit(_new("1.2.3", b"xyz"), _arrived(files, b"xyz"))
    (second,) = _rows(other, "1.2.3")
    assert (files.path(first.path).read_bytes(), files.path(second.path).read_bytes()) == (b"headabc", b"headxyz")
    other.close()


def test_large_objects_are_compared_before_the_transaction(
    db: Database, files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COMPARED_EARLY", 2)
    committer = Committer(db, files)
    for data in (b"abc", b"abc", b"abd"):
        committer.commit(_new("1.2.3", data), _arrived(files, data))
    assert [row.set_aside for row in _rows(db, "1.2.3")] == [False, True]


def test_deferred_instances_are_recorded_at_the_latest_when_it_closes(db: Database, files: FileStore) -> None:
    committer = Committer(db, files, deferred=True)
    for number in range(300):
        committer.commit(_new(f"1.{number}", b"abc"), _arrived(files, b"abc"))
    committer.close()
    assert all(len(_rows(db, f"1.{number}")) == 1 for number in range(300))
    assert list((files.root / "spool").iterdir()) == []


def test_a_deferred_instance_that_cannot_be_recorded_is_an_alert(
    db: Database, files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise StorageError("the folder cannot be used")

    committer = Committer(db, files, deferred=True)
    monkeypatch.setattr(module, "record_instances", broken)
    committer.commit(_new("1.2.3", b"abc"), _arrived(files, b"abc"))
    committer.close()
    with db.read() as conn:
        (event,) = list_events(conn)
    assert (event.severity, event.sop_uid) == ("alert", "1.2.3")
    assert "lost" in event.text
    assert list((files.root / "spool").iterdir()) == []
