"""How each kind of database is opened, so that what it has committed is on the disk and a lost peer is noticed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy import exc as sa_exc

from dicom_node.errors import StorageError

_DRIVER: Final = "postgresql+psycopg"
# A connection that was cut without a word is noticed within about half a minute (tcp(7), libpq)
_LIVELY: Final = {
    "connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000,
    "application_name": "wetread",
}  # fmt: skip
# A process that is stopped in the middle of a transaction must not keep its rows from the others
_SESSION: Final = (
    "SET idle_in_transaction_session_timeout = '20s'",
    "SET lock_timeout = '30s'",
    "SET TIME ZONE 'UTC'",
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
)


def parsed(url_or_path: str | Path, password: str = "") -> URL:
    """Raises StorageError for an address that cannot be understood."""
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return URL.create("sqlite", database=str(url_or_path))
    try:
        url = make_url(url_or_path)
    except (sa_exc.ArgumentError, ValueError) as error:
        raise StorageError("The database URL cannot be understood; write a path or postgresql://user@host:5432/name") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername=_DRIVER)
    return url.set(password=password) if password else url


def shown(url: URL) -> str:
    """For messages: without a password, wherever it stands."""
    return url.difference_update_query(["password"]).render_as_string(hide_password=True)


def made(url: URL, synchronous: str, busy_timeout_s: float) -> Engine:
    """Raises StorageError where there is no driver for it, or its folder cannot be made."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, synchronous, busy_timeout_s)
    if url.get_backend_name() == "postgresql":
        return _postgresql(url)
    return _other(url)


def libpq(url: URL) -> dict[str, Any]:
    """The same address and habits for a connection that psycopg opens itself."""
    _, arguments = url.get_dialect()().create_connect_args(url)
    return {**_LIVELY, **arguments}


def _sqlite(url: URL, synchronous: str, busy_timeout_s: float) -> Engine:
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
    def begin(conn: Any) -> None:
        conn.exec_driver_sql(conn.get_execution_options().get("wetread_begin", "BEGIN"))

    return engine


def _postgresql(url: URL) -> Engine:
    # prepare_threshold: statements prepared on the server are lost behind a pooler such as pgbouncer
    habits = {name: value for name, value in _LIVELY.items() if name not in url.query} | {"prepare_threshold": None}
    engine = _other(url, pool_size=8, max_overflow=-1, pool_pre_ping=True, connect_args=habits)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        connection.autocommit = True
        for statement in _SESSION:
            connection.execute(statement)
        connection.autocommit = False

    return engine


def _other(url: URL, **options: Any) -> Engine:
    try:
        return create_engine(url, **options)
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
