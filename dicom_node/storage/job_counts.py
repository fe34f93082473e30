"""How much work stands where: for ``wetread jobs``, the metrics and the pages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, or_, select

from dicom_node.storage.database import Database
from dicom_node.storage.jobs import Job, JobKind, JobState, job_of
from dicom_node.storage.tables import jobs

UNFINISHED = (JobState.QUEUED, JobState.LEASED, JobState.AWAITING)


@dataclass(frozen=True, slots=True)
class JobCount:
    """``oldest_created_at``: seconds since 1970 UTC."""

    kind: JobKind
    queue: str
    state: JobState
    count: int
    oldest_created_at: float


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Jobs of one kind, queue, priority and state other than done. ``due``: how many of them need not wait any more."""

    kind: JobKind
    queue: str
    priority: int
    state: JobState
    count: int
    due: int
    oldest_created_at: float


def count_jobs(db: Database) -> tuple[JobCount, ...]:
    """One row per kind, queue and state that has jobs."""
    key = (jobs.c.kind, jobs.c.queue, jobs.c.state)
    query = select(*key, func.count(), func.min(jobs.c.created_at)).group_by(*key).order_by(*key)
    with db.read() as conn:
        rows = conn.execute(query).all()
    return tuple(JobCount(JobKind(kind), queue, JobState(state), count, oldest) for kind, queue, state, count, oldest in rows)


def queue_depths(conn: Connection, now: float) -> tuple[QueueDepth, ...]:
    """All but finished work. However much was done in a year, only what is not done is looked at."""
    key = (jobs.c.kind, jobs.c.queue, jobs.c.priority, jobs.c.state)
    due = func.sum(case((jobs.c.not_before <= now, 1), else_=0))
    states = [state.value for state in (*UNFINISHED, JobState.DEAD)]
    query = select(*key, func.count(), due, func.min(jobs.c.created_at)).where(jobs.c.state.in_(states))
    rows = conn.execute(query.group_by(*key).order_by(*key)).all()
    return tuple(QueueDepth(JobKind(k), q, p, JobState(s), n, int(d), oldest) for k, q, p, s, n, d, oldest in rows)


def dead_jobs(conn: Connection, limit: int, offset: int = 0) -> tuple[Job, ...]:
    """Those that were given up, the latest first."""
    query = select(jobs).where(jobs.c.state == JobState.DEAD.value).order_by(jobs.c.done_at.desc(), jobs.c.id.desc())
    return tuple(job_of(row) for row in conn.execute(query.limit(limit).offset(offset)).mappings())


def jobs_of(conn: Connection, study_uids: Collection[str]) -> tuple[Job, ...]:
    """All jobs of these studies, in the order they were made."""
    query = select(jobs).where(jobs.c.study_uid.in_(study_uids)).order_by(jobs.c.id)
    return tuple(job_of(row) for row in conn.execute(query).mappings())


def studies_in(conn: Connection, states: Collection[JobState], limit: int) -> tuple[str, ...]:
    """Studies that have a job in one of these states, the latest job first."""
    chosen = or_(*(jobs.c.state == state.value for state in states))
    query = select(jobs.c.study_uid, func.max(jobs.c.id)).where(chosen).group_by(jobs.c.study_uid)
    return tuple(row.study_uid for row in conn.execute(query.order_by(func.max(jobs.c.id).desc()).limit(limit)))
