"""The database: SQLite in WAL mode with ``synchronous=FULL`` by default, PostgreSQL where there are more machines.

A transaction that returns from ``Database.write`` has reached the disk. Errors of the database leave here as
``StorageError``, those worth another try as ``StorageBusy``.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, make_url
from sqlalchemy import exc as sa_exc

from dicom_node.errors import StorageBusy, StorageError
from dicom_node.storage.migrate import migrate

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DEADLOCKS = {"40001", "40P01"}  # PostgreSQL: serialization_failure, deadlock_detected


class Database:
    """One database, safe to share between threads; each process opens its own."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        # SQLite's own wait polls and is not fair; among the threads of one process a lock is both quick and fair.
        self._writer = threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()

    @classmethod
    def open(cls, url_or_path: str | Path, *, synchronous: str = "FULL", busy_timeout_s: float = 30.0) -> Database:
        """Open the database and bring it to the newest revision, creating it where there is none.

        ``url_or_path``: a path, or an SQLAlchemy URL (``sqlite:///…``, ``postgresql+psycopg://…``).
        Raises StorageError when it is damaged, not a database, or made by a newer version; StorageBusy when it stays
        locked for ``busy_timeout_s`` seconds.
        """
        url = _url(url_or_path)
        database = cls(_engine(url, synchronous, busy_timeout_s), url.render_as_string(hide_password=True))
        try:
            with database._translated():
                migrate(database._engine)
        except StorageError:
            database.close()
            raise
        return database

    @classmethod
    def open_plain(cls, path: Path, metadata: MetaData) -> Database:
        """A small database of its own beside other files, with the tables of ``metadata``. Raises as ``open``."""
        url = _url(path)
        database = cls(_engine(url, "FULL", 30.0), str(path))
        try:
            with database._translated():
                metadata.create_all(database._engine)
        except StorageError:
            database.close()
            raise
        return database

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""
        return self._name

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end of the block, rolled back when the block raises."""
        with self._writer, self._translated(), self._engine.connect() as conn:
            conn.execution_options(wetread_begin="BEGIN IMMEDIATE")
            with conn.begin():
                yield conn

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: one consistent view that waits for no writer."""
        with self._translated(), self._engine.connect() as conn, conn.begin():
            yield conn

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa_exc.SQLAlchemyError as error:
            raise _translate(error, self._name) from error


def _url(url_or_path: str | Path) -> URL:
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return URL.create("sqlite", database=str(url_or_path))
    try:
        return make_url(url_or_path)
    except sa_exc.ArgumentError as error:
        raise StorageError(
            "The database URL cannot be understood; write a path or postgresql+psycopg://user@host/name"
        ) from error


def _engine(url: URL, synchronous: str, busy_timeout_s: float) -> Engine:
    if url.get_backend_name() != "sqlite":
        return _foreign_engine(url)
    _make_folder(url)
    engine = create_engine(
        url, pool_size=8, max_overflow=-1, connect_args={"timeout": busy_timeout_s, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions on its own, and too late
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql(conn.get_execution_options().get("wetread_begin", "BEGIN"))

    return engine


def _foreign_engine(url: URL) -> Engine:
    try:
        return create_engine(url, pool_size=8, max_overflow=-1, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StorageError(f"The database needs the Python package {error.name}; install wetread[postgres]") from error
    except sa_exc.ArgumentError as error:
        raise StorageError(f"No driver is known for a database of the kind {url.drivername!r}") from error


def _make_folder(url: URL) -> None:
    if not url.database or url.database == ":memory:":
        raise StorageError("A database in memory would lose what was acknowledged; give a path")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"The folder of the database {url.database} cannot be made: {error.strerror}") from error


def _translate(error: sa_exc.SQLAlchemyError, name: str) -> StorageError:
    original: Any = getattr(error, "orig", None)
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary result code
    if code in _DAMAGED:
        return StorageError(f"The database {name} is damaged or is not a database; restore it from a backup")
    if code == sqlite3.SQLITE_FULL:
        return StorageBusy(f"There is no room left on the disk of the database {name}")
    if code in _BUSY or isinstance(error, sa_exc.TimeoutError):
        return StorageBusy(f"The database {name} stayed locked by another process")
    if code == sqlite3.SQLITE_CANTOPEN:
        return StorageError(f"The database {name} cannot be opened; check the path and its permissions")
    if code == sqlite3.SQLITE_READONLY:
        return StorageError(f"The database {name} cannot be written; check its permissions")
    return _translate_other(error, original, code, name)


def _translate_other(error: sa_exc.SQLAlchemyError, original: Any, code: int, name: str) -> StorageError:
    if isinstance(error, sa_exc.IntegrityError):
        return StorageBusy(f"Two processes wrote the same row of the database {name} at once")
    if code == sqlite3.SQLITE_IOERR:
        return StorageBusy(f"The disk of the database {name} reports an error")
    if getattr(original, "sqlstate", None) in _DEADLOCKS or (not code and isinstance(error, sa_exc.OperationalError)):
        return StorageBusy(f"The database {name} cannot be reached or gave up a deadlock")
    return StorageError(f"The database {name} refused a statement ({type(error).__name__})")
