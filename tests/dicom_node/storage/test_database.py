"""Opening, migrating, locking and damage."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from dicom_node.errors import StorageBusy, StorageError
from dicom_node.storage import migrations
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, list_events, record_event
from dicom_node.storage.tables import metadata

EVENT = NewEvent(EventKind.FAILURE, "text")


def test_the_migrated_database_has_exactly_the_tables_of_the_program(db: Database) -> None:
    with db.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_head_is_the_newest_revision_of_the_folder() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def test_a_commit_is_synchronous_and_in_write_ahead_mode(tmp_path: Path) -> None:
    """Of PostgreSQL, see test_postgres.py."""
    db = Database.open(tmp_path / "node.sqlite")
    with db.read() as conn:
        pragmas = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    db.close()


def test_opening_a_current_database_does_not_load_alembic(tmp_path: Path) -> None:
    Database.open(tmp_path / "node.sqlite").close()
    program = f"""
import sys
from dicom_node.storage.database import Database
Database.open({str(tmp_path / "node.sqlite")!r}).close()
sys.exit("alembic" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def _open(path: str) -> str:
    database = Database.open(path)
    with database.write() as conn:
        record_event(conn, EVENT, 1.0)
    database.close()
    return "opened"


def test_several_processes_may_create_the_database_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "node.sqlite")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(_open, [path] * 4) == ["opened"] * 4
    database = Database.open(path)
    with database.read() as conn:
        assert len(list_events(conn)) == 4
    database.close()


def test_an_exception_undoes_the_transaction(db: Database) -> None:
    with pytest.raises(ZeroDivisionError), db.write() as conn:  # noqa: PT012 - the first statement is what is undone
        record_event(conn, EVENT, 1.0)
        raise ZeroDivisionError
    with db.read() as conn:
        assert list_events(conn) == ()


def test_a_reader_waits_for_no_writer_and_sees_only_what_is_committed(db: Database) -> None:
    with db.write() as writing:
        record_event(writing, EVENT, 1.0)
        with db.read() as reading:
            assert list_events(reading) == ()
    with db.read() as reading:
        assert len(list_events(reading)) == 1


def test_many_threads_write(db: Database) -> None:
    def write() -> None:
        for _ in range(10):
            with db.write() as conn:
                record_event(conn, EVENT, 1.0)

    threads = [threading.Thread(target=write) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as conn:
        assert len(list_events(conn, limit=1000)) == 200


def test_a_database_locked_by_another_is_busy(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.sqlite", busy_timeout_s=0.05)
    other = sqlite3.connect(tmp_path / "node.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageBusy, match="locked by another process"), database.write():
        pass
    other.execute("COMMIT")
    with database.write() as conn:
        record_event(conn, EVENT, 1.0)
    other.close()
    database.close()


def test_a_full_disk_is_busy_and_undone(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.sqlite")
    with pytest.raises(StorageBusy, match="no room left"), database.write() as conn:  # noqa: PT012 - one transaction
        conn.exec_driver_sql("PRAGMA max_page_count=1")
        for _ in range(200):
            record_event(conn, NewEvent(EventKind.FAILURE, "x" * 500), 1.0)
    database.close()
    reopened = Database.open(tmp_path / "node.sqlite")
    with reopened.read() as conn:
        assert list_events(conn) == ()
    reopened.close()


def _newer(path: Path) -> None:
    Database.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num='9999'")
    connection.commit()
    connection.close()


def _text(path: Path) -> None:
    path.write_text("no database " * 1000)


def _folder(path: Path) -> None:
    path.mkdir()


def _folder_is_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_text, "damaged or is not a database", id="a text file"),
        pytest.param(_newer, "does not know; install the newer one", id="made by a newer version"),
        pytest.param(_folder, "cannot be opened; check the path", id="a folder"),
        pytest.param(_folder_is_a_file, "cannot be made", id="its folder is a file"),
    ],
)
def test_what_cannot_be_opened_is_told_plainly(tmp_path: Path, spoil, message: str) -> None:
    path = tmp_path / "folder" / "node.sqlite"
    path.parent.mkdir()
    spoil(path)
    with pytest.raises(StorageError, match=message) as caught:
        Database.open(path)
    assert not isinstance(caught.value, StorageBusy)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "oracle-nine://x/y", "postgresql+nodriver://x/y"])
def test_urls_that_cannot_serve_are_refused(url: str) -> None:
    with pytest.raises(StorageError):
        Database.open(url)


def test_a_password_is_in_no_name() -> None:
    with pytest.raises(StorageError) as caught:
        Database.open("postgresql+psycopg://node:secret@127.0.0.1:1/wetread")
    assert "secret" not in str(caught.value)
