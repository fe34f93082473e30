"""Results and documents: what was read of a study's revision, and what was built of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update

from dicom_node.storage.tables import documents, results


@dataclass(frozen=True, slots=True)
class NewResult:
    """A reading as JSON, of one revision of a study."""

    study_uid: str
    revision: int
    reading_name: str
    reading_json: str


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A saved result."""

    id: int
    study_uid: str
    revision: int
    reading_name: str
    reading_json: str
    created_at: float


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document whose file is on the disk for good.

    ``path`` is relative to the file store's root, ``size`` in bytes. ``sop_class_uid`` and ``series_uid`` are empty where it is
    not DICOM. ``held``: the rules it breaks; such a document is never delivered.
    """

    uid: str
    kind: str
    path: str
    study_uid: str
    revision: int
    reading_name: str
    media_type: str
    size: int
    sha256: str
    sop_class_uid: str = ""
    series_uid: str = ""
    held: str = ""


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A saved document. ``purged_at``: when retention removed its file; None while it is there."""

    uid: str
    kind: str
    path: str
    study_uid: str
    revision: int
    reading_name: str
    media_type: str
    size: int
    sha256: str
    created_at: float
    sop_class_uid: str = ""
    series_uid: str = ""
    held: str = ""
    purged_at: float | None = None


def save_result(conn: Connection, result: NewResult, now: float) -> None:
    """Save a result; one already there for the same study, revision and reading is replaced."""
    key = {"study_uid": result.study_uid, "revision": result.revision, "reading_name": result.reading_name}
    _put(conn, results, key, {**asdict(result), "created_at": now})


def load_result(conn: Connection, study_uid: str, revision: int, reading_name: str) -> ResultRow | None:
    where = (results.c.study_uid == study_uid, results.c.revision == revision, results.c.reading_name == reading_name)
    row = conn.execute(select(results).where(*where)).mappings().one_or_none()
    return None if row is None else ResultRow(**row)


def results_of(conn: Connection, study_uid: str) -> tuple[ResultRow, ...]:
    """All results of a study, the newest revision first."""
    query = select(results).where(results.c.study_uid == study_uid).order_by(results.c.revision.desc(), results.c.id)
    return tuple(ResultRow(**row) for row in conn.execute(query).mappings())


def save_document(conn: Connection, document: NewDocument, now: float) -> None:
    """Save a document; one already there under the same UID is replaced."""
    _put(conn, documents, {"uid": document.uid}, {**asdict(document), "created_at": now, "purged_at": None})


def load_document(conn: Connection, uid: str) -> DocumentRow | None:
    row = conn.execute(select(documents).where(documents.c.uid == uid)).mappings().one_or_none()
    return None if row is None else DocumentRow(**row)


def documents_of(conn: Connection, study_uid: str, revision: int | None = None) -> tuple[DocumentRow, ...]:
    """Documents of a study, or of one revision of it; the newest revision first."""
    query = select(documents).where(documents.c.study_uid == study_uid)
    if revision is not None:
        query = query.where(documents.c.revision == revision)
    ordered = query.order_by(documents.c.revision.desc(), documents.c.kind, documents.c.uid)
    return tuple(DocumentRow(**row) for row in conn.execute(ordered).mappings())


def earlier_documents(conn: Connection, study_uid: str, reading_name: str, revision: int) -> tuple[DocumentRow, ...]:
    """What the last revision before ``revision`` sent out under this reading, by kind; held documents are not among them."""
    mine = (documents.c.study_uid == study_uid, documents.c.reading_name == reading_name, documents.c.held == "")
    last = select(func.max(documents.c.revision)).where(*mine, documents.c.revision < revision).scalar_subquery()
    query = select(documents).where(*mine, documents.c.revision == last).order_by(documents.c.kind, documents.c.uid)
    return tuple(DocumentRow(**row) for row in conn.execute(query).mappings())


def _put(conn: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    where = [table.c[name] == value for name, value in key.items()]
    if not conn.execute(update(table).where(*where).values(**values)).rowcount:
        conn.execute(insert(table).values(**values))
