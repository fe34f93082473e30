"""Bringing a database to the newest revision, by one process at a time.

The version row is read first: when it is current, alembic (0.1–0.2 s to load) is not touched.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from dicom_node.errors import StorageError
from dicom_node.storage.migrations import HEAD

_LOCK_KEY = 0x77657472  # "wetr": PostgreSQL's advisory lock


def migrate(engine: Engine, target: str = HEAD) -> None:
    """Raises StorageError when the database, or ``target``, is of a newer version of this program."""
    if _revision(engine) == target:
        return
    with _alone(engine):
        revision = _revision(engine)
        if revision != target:
            _upgrade(engine, revision, target)


def _revision(engine: Engine) -> str | None:
    with engine.connect() as conn:
        if not inspect(conn).has_table("alembic_version"):
            return None
        return conn.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(engine: Engine, revision: str | None, target: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    try:
        for one in (revision, target):
            if one is not None:
                ScriptDirectory.from_config(config).get_revision(one)
    except CommandError as error:
        unknown = max(revision or "", target)
        raise StorageError(
            f"The database is at revision {unknown!r}, which this version does not know; install the newer one"
        ) from error
    with engine.connect() as conn:
        conn.execution_options(wetread_begin="BEGIN IMMEDIATE")
        with conn.begin():
            config.attributes["connection"] = conn
            command.upgrade(config, target)


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold off other processes that start at the same time."""
    if engine.dialect.name == "sqlite":
        with Path(f"{engine.url.database}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _write_ahead(engine)
            yield
    else:
        with engine.connect() as conn, _advisory_lock(conn):
            yield


def _write_ahead(engine: Engine) -> None:
    """The journal mode stays with the file; changing it does not wait for others, so it is done here, alone."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


@contextmanager
def _advisory_lock(conn: Connection) -> Iterator[None]:
    """Held by a session of its own, outside of any transaction, for as long as the migration takes; its end frees it."""
    conn.execution_options(isolation_level="AUTOCOMMIT")
    conn.detach()
    conn.execute(text("SET lock_timeout = 0"))
    conn.execute(text(f"SELECT pg_advisory_lock({_LOCK_KEY})"))
    yield
