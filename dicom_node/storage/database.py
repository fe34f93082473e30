"""The database: SQLite in WAL mode with ``synchronous=FULL`` by default, PostgreSQL where there are more machines.

A transaction that returns from ``Database.write`` has reached the disk. Errors of the database leave here as
``StorageError``, those worth another try as ``StorageBusy``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, MetaData, text
from sqlalchemy import exc as sa_exc

from dicom_node.errors import StorageError
from dicom_node.storage import engines
from dicom_node.storage.bell import Bell, Bells, FileBells, NotifyBells, taken_rings
from dicom_node.storage.clock import FOLLOW_S, MachineTime, SharedClock
from dicom_node.storage.faults import refused, translate
from dicom_node.storage.migrate import migrate
from dicom_node.storage.migrations import HEAD

_READING: Final[dict[str, Any]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


class Database:
    """One database, safe to share between threads; each process opens its own."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self.one_machine = engine.dialect.name == "sqlite"  # whoever uses it runs on this machine
        # SQLite's own wait polls and is not fair; among the threads of one process a lock is both quick and fair.
        self._writer = threading.Lock() if self.one_machine else nullcontext()
        self._clock = self._made_clock()
        self._reading = engine if self.one_machine else engine.execution_options(**_READING)
        self._bells = self._made_bells()

    @classmethod
    def open(
        cls,
        url_or_path: str | Path,
        *,
        password: str = "",
        synchronous: str = "FULL",
        busy_timeout_s: float = 30.0,
        revision: str = HEAD,
    ) -> Database:
        """Open the database and bring it to ``revision``, by default the newest, creating it where there is none.

        ``url_or_path``: a path, or an SQLAlchemy URL (``sqlite:///…``, ``postgresql://…``, for which psycopg is the driver);
        ``password``: in place of the URL's. Raises StorageError when it is damaged, not a database, refuses us, or was made by
        a newer version; StorageBusy when it stays locked for ``busy_timeout_s`` seconds or a server cannot be reached.
        """
        url = engines.parsed(url_or_path, password)
        database = cls(engines.made(url, synchronous, busy_timeout_s), engines.shown(url))
        try:
            with database._opening():
                migrate(database._engine, revision)
            if not database.one_machine:
                database.now()
        except StorageError:
            database.close()
            raise
        return database

    @classmethod
    def open_plain(cls, path: Path, metadata: MetaData) -> Database:
        """A small database of its own beside other files, with the tables of ``metadata``. Raises as ``open``."""
        url = engines.parsed(path)
        database = cls(engines.made(url, "FULL", 30.0), str(path))
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

    def now(self) -> float:
        """Seconds since 1970 UTC by the clock that all processes on this database share (see ``storage.clock``)."""
        return self._clock.now()

    def bell(self, topic: str) -> Bell:
        """What rings when work of ``topic`` is committed by whatever process (see ``storage.bell``)."""
        return self._bells.bell(topic)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end of the block, rolled back when the block raises."""
        with self._writer, self._translated(), self._engine.connect() as conn:
            conn.execution_options(wetread_begin="BEGIN IMMEDIATE")
            try:
                with conn.begin():
                    yield conn
            except BaseException:
                taken_rings(conn)
                raise
            rings = taken_rings(conn)
        for topic in rings:
            self._bells.ring(topic)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: one consistent view that waits for no writer."""
        with self._translated(), self._reading.connect() as conn, conn.begin():
            yield conn

    def close(self) -> None:
        self._bells.close()
        self._engine.dispose()

    def _made_bells(self) -> Bells:
        if self.one_machine:
            return FileBells(Path(f"{self._engine.url.database}-bells"))
        return NotifyBells(engines.libpq(self._engine.url))

    def _made_clock(self) -> SharedClock:
        if self.one_machine:
            return SharedClock(MachineTime(Path(f"{self._engine.url.database}-clock")), FOLLOW_S)
        return SharedClock(self._told_time)

    def _told_time(self) -> float:
        with self.read() as conn:
            return float(conn.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa_exc.SQLAlchemyError as error:
            raise translate(error, self._name) from error

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """As ``_translated``; what a server will refuse again and again is no mere absence."""
        try:
            yield
        except sa_exc.SQLAlchemyError as error:
            told = translate(error, self._name)
            why = None if self.one_machine else refused(error)
            raise (StorageError(f"The database {self._name} refuses: {why}") if why else told) from error
