"""How much work stands where: for ``wetread jobs``, the metrics and the health page."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from dicom_node.storage.database import Database
from dicom_node.storage.jobs import JobKind, JobState
from dicom_node.storage.tables import jobs


@dataclass(frozen=True, slots=True)
class JobCount:
    """``oldest_created_at``: seconds since 1970 UTC."""

    kind: JobKind
    queue: str
    state: JobState
    count: int
    oldest_created_at: float


def count_jobs(db: Database) -> tuple[JobCount, ...]:
    """One row per kind, queue and state that has jobs."""
    key = (jobs.c.kind, jobs.c.queue, jobs.c.state)
    query = select(*key, func.count(), func.min(jobs.c.created_at)).group_by(*key).order_by(*key)
    with db.read() as conn:
        rows = conn.execute(query).all()
    return tuple(JobCount(JobKind(kind), queue, JobState(state), count, oldest) for kind, queue, state, count, oldest in rows)
