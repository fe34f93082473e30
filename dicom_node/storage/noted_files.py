"""Files whose rows retention has removed, until they are deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.storage.jobs import JobState
from dicom_node.storage.studies import lock_study
from dicom_node.storage.tables import documents, instances, jobs, purged_files

T = TypeVar("T")
_IN_ONE_STATEMENT: Final = 500


def note_files(conn: Connection, paths: Sequence[str], study_uid: str, now: float) -> None:
    """These are to be deleted once the caller's transaction, which removes their rows, has committed."""
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    for some in parts(paths):
        rows = [{"path": path, "study_uid": study_uid, "at": now} for path in some]
        conn.execute(make(purged_files).on_conflict_do_nothing(index_elements=["path"]), rows)


def studies_with_noted_files(conn: Connection, limit: int) -> tuple[str, ...]:
    """Studies of which files are still to be deleted."""
    return tuple(conn.execute(select(purged_files.c.study_uid).distinct().limit(limit)).scalars())


def noted_paths(conn: Connection, paths: Sequence[str]) -> frozenset[str]:
    """Those of some paths that are noted."""
    return frozenset(
        path
        for some in parts(paths)
        for path in conn.execute(select(purged_files.c.path).where(purged_files.c.path.in_(some))).scalars()
    )


def hold_noted_files(conn: Connection, study_uid: str, limit: int) -> tuple[str, ...]:
    """Files to delete now, before the transaction ends: nobody can give one of their names to a new row meanwhile.

    A file that a row names again (its image was sent again, its document was made again) is taken off the notes and stays;
    documents of a study on which a worker may be at work are left for later.
    """
    lock_study(conn, study_uid)
    hold_jobs(conn, study_uid)
    mine = select(purged_files.c.path).where(purged_files.c.study_uid == study_uid)
    if _in_work(conn, study_uid):
        mine = mine.where(~purged_files.c.path.startswith("documents/"))
    noted = list(conn.execute(mine.order_by(purged_files.c.path).limit(limit)).scalars())
    again = _named_again(conn, study_uid, noted)
    for some in parts(noted):
        conn.execute(delete(purged_files).where(purged_files.c.path.in_(some)))
    return tuple(path for path in noted if path not in again)


def hold_jobs(conn: Connection, study_uid: str) -> None:
    """Nobody changes a job of the study until the transaction ends."""
    conn.execute(select(jobs.c.id).where(jobs.c.study_uid == study_uid).order_by(jobs.c.id).with_for_update()).all()


def _named_again(conn: Connection, study_uid: str, paths: Sequence[str]) -> set[str]:
    image = (instances.c.study_uid == study_uid, instances.c.path.in_(paths))
    document = (documents.c.study_uid == study_uid, documents.c.path.in_(paths), documents.c.purged_at.is_(None))
    found = set(conn.execute(select(instances.c.path).where(*image)).scalars())
    return found | set(conn.execute(select(documents.c.path).where(*document)).scalars())


def _in_work(conn: Connection, study_uid: str) -> bool:
    busy = select(jobs.c.id).where(jobs.c.study_uid == study_uid, jobs.c.state != JobState.DONE.value)
    return conn.execute(busy.limit(1)).first() is not None


def parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """Few enough for one statement."""
    return (items[first : first + _IN_ONE_STATEMENT] for first in range(0, len(items), _IN_ONE_STATEMENT))
