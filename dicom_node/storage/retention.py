"""What retention may remove, and removing it.

Rows go first, in one transaction with a note of their files; the files follow, each under the lock of its study and only
while no row names it. A process that is killed in between leaves notes, which the next run works off: never a row without its
file. The row of the study stays, and with it the number of its next revision: an image that comes later is never taken for
the first of a new study.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, or_, select, update

from dicom_node.storage.jobs import JobState
from dicom_node.storage.noted_files import hold_jobs, note_files, parts
from dicom_node.storage.studies import lock_study
from dicom_node.storage.tables import (
    audit_marks,
    commitments_asked,
    compared_priors,
    documents,
    index_instances,
    index_series,
    index_studies,
    instances,
    jobs,
    priors,
    purged_studies,
    results,
    studies,
)

UNFINISHED = tuple(state.value for state in JobState if state is not JobState.DONE)  # named, so that their index serves


class Kept(StrEnum):
    """Why a study that is old enough stays."""

    UNREAD = "images came that no revision covers yet"
    UNFINISHED = "a reading or delivery is not finished"
    DEAD = "a reading or delivery was given up; run it again, or it stays"
    HELD = "a document of it is held"
    CONFLICT = "an image of it is set aside (conflict)"
    NEEDED = "another study's work names it"
    PROMISED = "a peer waits for our word that it is kept"


@dataclass(frozen=True, slots=True)
class Removed:
    """What one removal took: rows, and bytes of their files."""

    count: int = 0
    size: int = 0

    def __add__(self, other: Removed) -> Removed:
        return Removed(self.count + other.count, self.size + other.size)


@dataclass(frozen=True, slots=True)
class StudyImages:
    """A study whose images may go. ``size`` in bytes."""

    study_uid: str
    last_instance_at: float
    images: int
    size: int


def _job(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(jobs.c.id).where(jobs.c.study_uid == studies.c.study_uid, *conditions).exists()


def _reasons(conflicts_before: float) -> dict[Kept, ColumnElement[bool]]:
    """Each reason to keep a row of ``studies``. ``conflicts_before``: images set aside before then protect nothing."""
    mine = studies.c.study_uid
    unfinished = (JobState.DONE.value, JobState.DEAD.value)
    held = select(documents.c.uid).where(documents.c.study_uid == mine, documents.c.held != "").exists()
    others, image = jobs.alias("others"), instances.alias("image")
    aside = (image.c.study_uid == mine, image.c.set_aside.is_(True), image.c.received_at >= conflicts_before)
    busy = others.c.state.in_(UNFINISHED)
    named = select(others.c.id).where(busy, others.c.payload.contains(mine)).exists()
    reader = studies.alias("reader")
    undone = select(others.c.id).where(others.c.study_uid == priors.c.study_uid, busy).exists()
    open_ = select(reader.c.study_uid).where(reader.c.study_uid == priors.c.study_uid, reader.c.dirty.is_(True)).exists()
    prior = select(priors.c.study_uid).where(priors.c.prior_uid == mine, or_(undone, open_)).exists()
    asked = and_(image.c.study_uid == mine, commitments_asked.c.objects.contains(image.c.sop_uid))
    return {
        Kept.UNREAD: or_(studies.c.dirty.is_(True), studies.c.revision < 1),
        Kept.UNFINISHED: _job(jobs.c.state.not_in(unfinished)),
        Kept.DEAD: _job(jobs.c.state == JobState.DEAD.value),
        Kept.HELD: held,
        Kept.CONFLICT: select(image.c.id).where(*aside).exists(),
        Kept.NEEDED: or_(named, prior),
        Kept.PROMISED: select(image.c.id).select_from(image.join(commitments_asked, asked)).exists(),
    }


def _old_images(before: float) -> Select[Any]:
    """Studies with images whose last one came before ``before``, the oldest first."""
    query = select(
        studies.c.study_uid, studies.c.last_instance_at, func.count(instances.c.id).label("images"), func.sum(instances.c.size)
    ).join(instances, instances.c.study_uid == studies.c.study_uid)
    grouped = query.where(studies.c.last_instance_at < before).group_by(studies.c.study_uid, studies.c.last_instance_at)
    return grouped.order_by(studies.c.last_instance_at, studies.c.study_uid)


def removable_studies(conn: Connection, before: float, conflicts_before: float, limit: int) -> tuple[StudyImages, ...]:
    """Studies whose last image came before ``before`` and that nothing keeps, the oldest first."""
    free = [~reason for reason in _reasons(conflicts_before).values()]
    rows = conn.execute(_old_images(before).where(*free).limit(limit))
    return tuple(StudyImages(row[0], row[1], row[2], int(row[3])) for row in rows)


def kept_studies(conn: Connection, before: float, conflicts_before: float) -> dict[Kept, int]:
    """How many studies that are old enough stay for each reason; a study may have several."""
    old = (
        studies.c.last_instance_at < before,
        select(instances.c.id).where(instances.c.study_uid == studies.c.study_uid).exists(),
    )
    counts = {
        why: conn.execute(select(func.count()).select_from(studies).where(*old, reason)).scalar_one()
        for why, reason in _reasons(conflicts_before).items()
    }
    return {why: count for why, count in counts.items() if count}


def hold_if_removable(conn: Connection, study_uid: str, before: float, conflicts_before: float) -> bool:
    """Whether the study's images may go, now that nobody else can change that until the transaction ends."""
    if lock_study(conn, study_uid) is None:
        return False
    hold_jobs(conn, study_uid)
    free = [~reason for reason in _reasons(conflicts_before).values()]
    mine = (studies.c.study_uid == study_uid, studies.c.last_instance_at < before)
    return conn.execute(select(studies.c.study_uid).where(*mine, *free)).first() is not None


def remove_images(conn: Connection, study_uid: str, now: float) -> Removed:
    """Remove a study's instances from all tables, after ``hold_if_removable`` in the same transaction."""
    rows = conn.execute(select(instances.c.path, instances.c.size).where(instances.c.study_uid == study_uid)).all()
    note_files(conn, [row.path for row in rows], study_uid, now)
    conn.execute(delete(instances).where(instances.c.study_uid == study_uid))
    for table in (index_instances, index_series, index_studies):
        conn.execute(delete(table).where(table.c.study_uid == study_uid))
    conn.execute(update(studies).where(studies.c.study_uid == study_uid).values(instance_count=0))
    _lower_mark(conn)
    known = update(purged_studies).where(purged_studies.c.study_uid == study_uid)
    if not conn.execute(known.values(images=purged_studies.c.images + len(rows), at=now)).rowcount:
        conn.execute(purged_studies.insert().values(study_uid=study_uid, images=len(rows), at=now))
    return Removed(len(rows), sum(row.size for row in rows))


def _lower_mark(conn: Connection) -> None:
    """SQLite gives the numbers of its last rows again once those are gone: what comes next must not count as audited."""
    last = conn.execute(select(func.coalesce(func.max(instances.c.id), 0))).scalar_one()
    mark = update(audit_marks).where(audit_marks.c.name == "instances", audit_marks.c.last_id > last)
    conn.execute(mark.values(last_id=last))


def purged_note(conn: Connection, study_uid: str) -> tuple[int, float] | None:
    """How many images of a study were removed, and when the last of them; None where all are still there."""
    row = conn.execute(select(purged_studies).where(purged_studies.c.study_uid == study_uid)).one_or_none()
    return None if row is None else (row.images, row.at)


def _old_documents(before: float) -> tuple[ColumnElement[bool], ...]:
    """Documents of finished work. A row stays, for what supersedes it; its file and its result go."""
    busy = select(jobs.c.id).where(jobs.c.study_uid == documents.c.study_uid, jobs.c.state.in_(UNFINISHED)).exists()
    dirty = select(studies.c.study_uid).where(studies.c.study_uid == documents.c.study_uid, studies.c.dirty.is_(True)).exists()
    mine = (documents.c.purged_at.is_(None), documents.c.held == "", documents.c.created_at < before)
    promised = select(commitments_asked.c.state).where(commitments_asked.c.objects.contains(documents.c.uid)).exists()
    return (*mine, ~busy, ~dirty, ~promised)


def old_documents(conn: Connection, before: float) -> Removed:
    """What ``remove_documents`` would take, of all studies."""
    query = select(func.count(), func.coalesce(func.sum(documents.c.size), 0)).where(*_old_documents(before))
    return Removed(*conn.execute(query).one())


def studies_with_old_documents(conn: Connection, before: float, limit: int) -> tuple[str, ...]:
    oldest = func.min(documents.c.created_at)
    query = select(documents.c.study_uid).where(*_old_documents(before)).group_by(documents.c.study_uid).order_by(oldest)
    return tuple(conn.execute(query.limit(limit)).scalars())


def remove_documents(conn: Connection, study_uid: str, before: float, now: float) -> tuple[Removed, tuple[str, ...]]:
    """Remove a study's old documents, and results, of which nothing is under way; and which UIDs they had."""
    if lock_study(conn, study_uid) is None:
        return Removed(), ()
    hold_jobs(conn, study_uid)
    query = select(documents.c.uid, documents.c.path, documents.c.size).where(
        documents.c.study_uid == study_uid, *_old_documents(before)
    )
    rows = conn.execute(query).all()
    uids = [row.uid for row in rows]
    note_files(conn, [row.path for row in rows], study_uid, now)
    for some in parts(uids):
        conn.execute(update(documents).where(documents.c.uid.in_(some)).values(purged_at=now))
    if rows:
        for table, made in ((results, results.c.created_at), (compared_priors, compared_priors.c.at)):
            conn.execute(delete(table).where(table.c.study_uid == study_uid, made < before))
    return Removed(len(rows), sum(row.size for row in rows)), tuple(uids)


def held_bytes(conn: Connection) -> int:
    """Bytes of all images and documents that the node holds."""
    images = select(func.coalesce(func.sum(instances.c.size), 0))
    papers = select(func.coalesce(func.sum(documents.c.size), 0)).where(documents.c.purged_at.is_(None))
    return int(conn.execute(images).scalar_one()) + int(conn.execute(papers).scalar_one())
