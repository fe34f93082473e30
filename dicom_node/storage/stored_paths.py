"""Which file each row names, found without an index on paths: a file's place follows from its UIDs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from dicom_node.storage.noted_files import parts
from dicom_node.storage.tables import documents, instances, studies


@dataclass(frozen=True, slots=True)
class Stored:
    """``path``: relative to the file store's root."""

    path: str
    study_uid: str


def stored_images(conn: Connection, wanted: Callable[[str], bool]) -> dict[str, Stored]:
    """By path, the files of the images of those studies whose UID is ``wanted``."""
    chosen = [uid for uid in conn.execute(select(studies.c.study_uid)).scalars() if wanted(uid)]
    query = select(instances.c.path, instances.c.study_uid)
    rows = (row for some in parts(chosen) for row in conn.execute(query.where(instances.c.study_uid.in_(some))))
    return {row.path: Stored(row.path, row.study_uid) for row in rows}


def stored_documents(conn: Connection, wanted: Callable[[str], bool]) -> dict[str, Stored]:
    """By path, the files of those documents whose UID is ``wanted``."""
    query = select(documents.c.uid, documents.c.path, documents.c.study_uid).where(documents.c.purged_at.is_(None))
    return {row.path: Stored(row.path, row.study_uid) for row in conn.execute(query) if wanted(row.uid)}


def named_paths(conn: Connection, paths: Sequence[str]) -> frozenset[str]:
    """Those of some paths that a row names. It reads whole tables: only for the few paths that are in doubt."""
    queries = [
        query
        for some in parts(paths)
        for query in (
            select(instances.c.path).where(instances.c.path.in_(some)),
            select(documents.c.path).where(documents.c.path.in_(some), documents.c.purged_at.is_(None)),
        )
    ]
    return frozenset(path for query in queries for path in conn.execute(query).scalars())
