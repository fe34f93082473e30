"""Rows that tell of the past: finished jobs and events, removed by age. Their ids are never given again."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, func, select

from dicom_node.storage.jobs import JobState
from dicom_node.storage.noted_files import parts
from dicom_node.storage.spent_keys import spend
from dicom_node.storage.tables import audit_marks, commitments, events, jobs


def old_jobs(conn: Connection, before: float) -> int:
    """What ``remove_jobs`` would take."""
    return int(conn.execute(select(func.count()).select_from(jobs).where(*_old_jobs(before))).scalar_one())


def remove_jobs(conn: Connection, before: float, limit: int) -> int:
    """Remove jobs that were done before ``before`` and remember their idempotency keys; how many."""
    query = select(jobs.c.id, jobs.c.idempotency_key).where(*_old_jobs(before)).order_by(jobs.c.id).limit(limit)
    rows = conn.execute(query.with_for_update()).all()
    for some in parts(rows):
        spend(conn, [row.idempotency_key for row in some])
        conn.execute(delete(jobs).where(jobs.c.id.in_([row.id for row in some])))
    return len(rows)


def any_old_jobs(conn: Connection, before: float) -> bool:
    """Whether ``remove_jobs`` has anything to do; asked first, since it holds no writer up."""
    return conn.execute(select(jobs.c.id).where(*_old_jobs(before)).limit(1)).first() is not None


def any_old_events(conn: Connection, before: float) -> bool:
    """Whether ``remove_events`` has anything to do."""
    return conn.execute(select(events.c.id).where(*_old_events(before)).limit(1)).first() is not None


def _old_jobs(before: float) -> tuple[ColumnElement[bool], ...]:
    """The newest job stays: SQLite would give its number again, and what names a job by number would name another."""
    every = jobs.alias("every")
    newest = select(func.max(every.c.id)).scalar_subquery()
    awaited = select(commitments.c.job_id).where(commitments.c.job_id == jobs.c.id).exists()
    return (jobs.c.state == JobState.DONE.value, jobs.c.done_at < before, jobs.c.id < newest, ~awaited)


def old_events(conn: Connection, before: float) -> int:
    """What ``remove_events`` would take."""
    return int(conn.execute(select(func.count()).select_from(events).where(*_old_events(before))).scalar_one())


def remove_events(conn: Connection, before: float, limit: int) -> int:
    """Remove events that came before ``before``, once an audit message was made of what needs one; how many."""
    ids = list(conn.execute(select(events.c.id).where(*_old_events(before)).order_by(events.c.id).limit(limit)).scalars())
    for some in parts(ids):
        conn.execute(delete(events).where(events.c.id.in_(some)))
    return len(ids)


def _old_events(before: float) -> tuple[ColumnElement[bool], ...]:
    every = events.alias("every")
    newest = select(func.max(every.c.id)).scalar_subquery()
    audited = select(audit_marks.c.last_id).where(audit_marks.c.name == "events").scalar_subquery()
    return (events.c.at < before, events.c.id < newest, events.c.id <= func.coalesce(audited, events.c.id))
