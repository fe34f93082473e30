"""All rows of the database as lines of JSON, and back: the same form for SQLite and PostgreSQL.

A copy is of one moment, whatever is written meanwhile, and names the revision of the tables it was made at; it is restored at
that revision and then brought to this program's.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

from sqlalchemy import Connection, MetaData, Table, collate, func, insert, select, text, union, update

from dicom_node.errors import StorageError
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import JobKind, JobState
from dicom_node.storage.tables import commitments, documents, instances, jobs

_AT_ONCE: Final = 500  # rows of one statement
_VERSION: Final = "alembic_version"
# What processes that are not there any more said of themselves
_PASSING: Final = ("nodes", "gauges", "worker_states", "destination_states", "web_sessions")
_EMPTY: Final = ("studies", "instances", "jobs", "results", "documents")
_HAS_FILE: Final = (documents.c.purged_at.is_(None),)


def save_tables(db: Database, folder: Path, paths: Path) -> dict[str, int]:
    """Write every table into ``folder`` as NAME.jsonl.gz; how many rows each has. All are of one moment.

    ``paths`` gets the paths of the files that the rows of that moment name, one a line, in the order of their bytes.
    Raises StorageError where the database or the folder fails.
    """
    counts = {}
    with db.read() as conn:
        shape = _shape(conn)
        for table in shape.sorted_tables:
            if table.name not in _PASSING:
                counts[table.name] = _save(conn, table, folder / f"{table.name}.jsonl.gz")
        with paths.open("w", encoding="utf-8") as out:
            out.writelines(f"{path}\n" for path in _paths(conn))
    return counts


def still_named(db: Database, path: str) -> bool:
    """Whether a row names the file now: what is deleted by its age meanwhile may be missing in a copy."""
    with db.read() as conn:
        return any(
            conn.execute(query).first() is not None
            for query in (
                select(instances.c.id).where(instances.c.path == path),
                select(documents.c.uid).where(*_HAS_FILE, documents.c.path == path),
            )
        )


def revision_of(db: Database) -> str:
    """The revision of the tables."""
    with db.read() as conn:
        return str(conn.execute(text(f"SELECT version_num FROM {_VERSION}")).scalar_one())


def is_empty(db: Database) -> bool:
    """Whether no study was ever received there."""
    with db.read() as conn:
        return _is_empty(conn, _shape(conn))


def load_tables(db: Database, folder: Path, now: float) -> dict[str, int]:
    """Fill an empty database of the same revision from ``folder``, and make its work ready to go on; rows of each table.

    One transaction: all of it is there, or nothing. Raises StorageError where a row does not fit, or a study came meanwhile.
    """
    counts = {}
    with db.write() as conn:
        shape = _shape(conn)
        if conn.dialect.name == "postgresql":
            conn.execute(text(f"LOCK TABLE {', '.join(_EMPTY)} IN SHARE ROW EXCLUSIVE MODE"))
        if not _is_empty(conn, shape):
            raise StorageError(
                f"the database {db.name} has received studies meanwhile; stop its node, restore into an empty one"
            )
        for table in shape.sorted_tables:
            file = folder / f"{table.name}.jsonl.gz"
            if file.exists():
                conn.execute(table.delete())
                counts[table.name] = _load(conn, table, file)
                _count_on(conn, table)
        _make_ready(conn, shape, now)
    return counts


def _is_empty(conn: Connection, shape: MetaData) -> bool:
    return not any(conn.execute(select(shape.tables[name]).limit(1)).first() for name in _EMPTY)


def _paths(conn: Connection) -> Iterator[str]:
    """Byte for byte, whatever order the server's language has."""
    every = union(select(instances.c.path), select(documents.c.path).where(*_HAS_FILE)).subquery()
    path = every.c.path if conn.dialect.name == "sqlite" else collate(every.c.path, "C")
    yield from conn.execution_options(yield_per=_AT_ONCE).execute(select(path).order_by(path)).scalars()


def _shape(conn: Connection) -> MetaData:
    """The tables as they are in the database, which may be of an older revision than the program's."""
    shape = MetaData()
    shape.reflect(conn)
    if _VERSION in shape.tables:
        shape.remove(shape.tables[_VERSION])
    return shape


def _save(conn: Connection, table: Table, file: Path) -> int:
    rows = conn.execution_options(yield_per=_AT_ONCE).execute(select(table)).mappings()
    count = 0
    with _writing(file) as out:
        for row in rows:
            out.write(json.dumps(dict(row), default=_as_text) + "\n")
            count += 1
    return count


@contextmanager
def _writing(file: Path) -> Iterator[TextIO]:
    try:
        with gzip.open(file, "wt", encoding="utf-8", compresslevel=3) as out:
            yield out
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror or error}") from error


def _load(conn: Connection, table: Table, file: Path) -> int:
    count = 0
    for rows in _batches(_rows(file)):
        conn.execute(insert(table), rows)
        count += len(rows)
    return count


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield {name: _as_bytes(value) for name, value in json.loads(line).items()}
    except (OSError, EOFError, ValueError) as error:
        raise StorageError(f"{file} is damaged; restore from another backup") from error


def _as_text(value: object) -> dict[str, str]:
    return {"base64": b64encode(bytes(value)).decode("ascii")}  # type: ignore[call-overload]


def _as_bytes(value: Any) -> Any:
    return b64decode(value["base64"]) if isinstance(value, dict) else value


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    left = iter(rows)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


def _count_on(conn: Connection, table: Table) -> None:
    """PostgreSQL's sequences do not notice numbers that were given."""
    numbered = table.columns.get("id")
    if conn.dialect.name == "postgresql" and numbered is not None:
        sequence = conn.execute(text("SELECT pg_get_serial_sequence(:name, 'id')"), {"name": table.name}).scalar()
        if sequence:
            top = select(func.coalesce(func.max(numbered), 0) + 1).scalar_subquery()
            conn.execute(select(func.setval(sequence, top, False)))


def _make_ready(conn: Connection, shape: MetaData, now: float) -> None:
    """No process of then holds anything, and the time between then and now is not held against a delivery."""
    free = {"state": JobState.QUEUED.value, "lease_owner": "", "lease_until": 0.0, "unfinished": 0, "not_before": 0.0}
    conn.execute(update(jobs).where(jobs.c.state == JobState.LEASED.value).values(**free))
    waiting = (jobs.c.state == JobState.QUEUED.value, jobs.c.kind == JobKind.DELIVER.value)
    conn.execute(update(jobs).where(*waiting).values(first_error_at=None, not_before=0.0))
    if commitments.name in shape.tables:
        asked = update(commitments).where(commitments.c.asker != "")
        conn.execute(asked.values(asker="", next_at=now))
