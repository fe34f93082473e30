"""Durable work: one table for readings and deliveries.

A job is claimed, never taken away: it stays in the table under a lease, and when its worker dies the lease runs out and
another worker takes it. Whoever finishes must still hold the lease. All times are seconds since 1970 UTC.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Update, and_, delete, func, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.errors import LeaseLost
from dicom_node.storage.bell import READ_TOPIC, announce, delivery_topic
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.job_rows import Job as Job
from dicom_node.storage.job_rows import JobKind as JobKind
from dicom_node.storage.job_rows import JobState as JobState
from dicom_node.storage.job_rows import NewJob as NewJob
from dicom_node.storage.job_rows import Priority as Priority
from dicom_node.storage.job_rows import get_job as get_job
from dicom_node.storage.job_rows import job_of as job_of
from dicom_node.storage.job_rows import list_jobs as list_jobs
from dicom_node.storage.spent_keys import is_spent
from dicom_node.storage.tables import jobs

RERUNNABLE: Final = (JobState.DEAD, JobState.DONE, JobState.AWAITING)
UNFINISHED_LIMIT = 5  # claims in a row without a word from the worker, after which a job is held to be what kills it
_PLACES_LOCK = 0x77657470  # "wetp": the class of PostgreSQL's advisory locks on queues
_FREE = {"lease_owner": "", "lease_until": 0.0, "unfinished": 0}


def enqueue(conn: Connection, job: NewJob, now: float) -> bool:
    """Queue a job in the caller's transaction; False when its key is known already, whatever became of that job."""
    values = {
        **{name: getattr(job, name) for name in ("queue", "idempotency_key", "study_uid", "not_before")},
        **{"kind": job.kind.value, "priority": int(job.priority), "payload": json.dumps(job.payload, sort_keys=True)},
        **{"state": JobState.QUEUED.value, "attempts": 0, "created_at": now, "last_error": "", **_FREE},
    }
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    added = make(jobs).values(**values).on_conflict_do_nothing(index_elements=["idempotency_key"]).returning(jobs.c.id)
    new = conn.execute(added).first() is not None
    if new and is_spent(conn, job.idempotency_key):
        conn.execute(delete(jobs).where(jobs.c.idempotency_key == job.idempotency_key))
        return False
    if new and job.not_before <= now:
        announce(conn, topic_of(job.kind, job.queue))
    return new


def topic_of(kind: JobKind, queue: str) -> str:
    """What is rung when such a job is due (see ``storage.bell``)."""
    return READ_TOPIC if kind is JobKind.READ else delivery_topic(queue)


def claim(
    db: Database, kind: JobKind, queue: str | None, owner: str, limit: int, lease_s: float, now: float, most: int | None = None
) -> list[Job]:
    """Lease up to ``limit`` jobs to ``owner`` for ``lease_s`` seconds, strictly by priority, then age.

    ``queue`` None: of any queue. Leases that ran out count as waiting. A job whose last worker stopped in the middle is
    leased alone, so that it can harm no other; after ``UNFINISHED_LIMIT`` such stops it is buried. ``most``: nothing is
    leased while so many owners, on whatever machine, hold leases of the queue.
    """
    waiting = waiting_jobs(kind, queue, now)
    with db.read() as conn:  # an idle node asks many times a second: it must not hold the writers up
        if conn.execute(select(jobs.c.id).where(waiting).limit(1)).first() is None:
            return []
    with db.write() as conn:
        if most is not None and not has_place(conn, kind, queue or "", most, now):
            return []
        bury_killers(conn, waiting, now)
        query = select(jobs.c.id, jobs.c.unfinished).where(waiting).order_by(jobs.c.priority, jobs.c.created_at, jobs.c.id)
        found = conn.execute(query.limit(limit).with_for_update(skip_locked=True)).all()
        harmless = list(takewhile(lambda row: row.unfinished == 0, found))
        return lease(conn, [row.id for row in harmless or found[:1]], owner, now + lease_s)


def heartbeat(db: Database, owner: str, ids: Collection[int], lease_s: float, now: float) -> bool:
    """Prolong leases; False when one of them is no longer the owner's."""
    with db.write() as conn:
        mine = update(jobs).where(jobs.c.id.in_(ids), jobs.c.lease_owner == owner, jobs.c.state == JobState.LEASED.value)
        return conn.execute(mine.values(lease_until=now + lease_s)).rowcount == len(set(ids))


def complete(conn: Connection, job: Job, owner: str, now: float) -> None:
    """Finish a job in the caller's transaction, beside what it produced. Raises LeaseLost, which must undo that transaction."""
    _finish(conn, job, owner, state=JobState.DONE.value, done_at=now)


def retry_later(db: Database, job: Job, owner: str, error: str, not_before: float, now: float) -> None:
    """Put a job back until ``not_before``. ``error``: a plain sentence without patient data. Raises LeaseLost."""
    with db.write() as conn:
        _finish(conn, job, owner, state=JobState.QUEUED.value, not_before=not_before, **_error(job, error, now))


def postpone(db: Database, job: Job, owner: str, error: str, not_before: float, now: float) -> None:
    """As ``retry_later`` for what is not the job's own fault (no room, a locked database): the attempt does not count.

    Raises LeaseLost.
    """
    with db.write() as conn:
        values = {"attempts": job.attempts - 1, "not_before": not_before, **_error(job, error, now)}
        _finish(conn, job, owner, state=JobState.QUEUED.value, **values)


def bury(db: Database, job: Job, owner: str, error: str, now: float) -> None:
    """Give a job up and alert; an operator may run it again. Raises LeaseLost."""
    with db.write() as conn:
        _finish(conn, job, owner, state=JobState.DEAD.value, done_at=now, **_error(job, error, now))
        record_event(conn, dead_event(job.kind, job.study_uid, error), now)


def hold(conn: Connection, job: Job, owner: str) -> None:
    """Nothing, where the job is still leased to ``owner``: nobody can take it before the caller's transaction ends.

    For what is committed of a job before its end. Raises LeaseLost, as ``complete``.
    """
    if not conn.execute(update(jobs).where(*_held(job, owner)).values(lease_owner=owner)).rowcount:
        raise LeaseLost(f"Job {job.id} is no longer leased to this worker")


def await_answer(conn: Connection, job: Job, owner: str) -> None:
    """Give the lease back and wait for the peer's word, in the caller's transaction. Raises LeaseLost, as ``complete``."""
    _finish(conn, job, owner, state=JobState.AWAITING.value)


def answered(conn: Connection, job_id: int, state: JobState, error: str, now: float, not_before: float = 0.0) -> bool:
    """The peer's word came, or was waited for in vain: DONE, QUEUED (send it again), AWAITING (ask again) or DEAD.

    False where the job awaits nothing. A good word counts for a job that is queued again too.
    """
    waiting = [JobState.AWAITING.value, *([JobState.QUEUED.value] if state is JobState.DONE else [])]
    values: dict[str, Any] = {"state": state.value, "last_error": error, "not_before": not_before}
    if state in (JobState.DONE, JobState.DEAD):
        values["done_at"] = now
    settled = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(waiting)).values(**values)
    row = conn.execute(settled.returning(jobs.c.kind, jobs.c.study_uid)).one_or_none()
    if row is not None and state is JobState.DEAD:
        record_event(conn, dead_event(JobKind(row.kind), row.study_uid, error), now)
    return row is not None


def release(db: Database, held: Sequence[Job], owner: str) -> int:
    """Give back jobs that were not begun (an orderly stop), as if never claimed; how many were still the owner's."""
    ids = [job.id for job in held]
    with db.write() as conn:
        mine = update(jobs).where(jobs.c.id.in_(ids), jobs.c.lease_owner == owner, jobs.c.state == JobState.LEASED.value)
        return _announced(conn, mine.values(state=JobState.QUEUED.value, attempts=jobs.c.attempts - 1, **_FREE))


def release_dead(db: Database, is_alive: Callable[[str], bool]) -> int:
    """Free the leases of owners that no longer live (see ``storage.owner``); how many."""
    leased = jobs.c.state == JobState.LEASED.value
    with db.read() as conn:  # asked every few seconds: it must not hold the writers up
        owners = conn.execute(select(jobs.c.lease_owner).where(leased).distinct()).scalars().all()
    gone = [owner for owner in owners if not is_alive(owner)]
    if not gone:
        return 0
    with db.write() as conn:
        freed = {"state": JobState.QUEUED.value, "lease_owner": "", "lease_until": 0.0}
        return _announced(conn, update(jobs).where(leased, jobs.c.lease_owner.in_(gone)).values(**freed))


def rerun(db: Database, job_id: int, now: float, states: Collection[JobState] = RERUNNABLE) -> bool:
    """Queue a job that is in one of ``states`` again, at once; False when there is no such job."""
    with db.write() as conn:
        ended = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_([state.value for state in states]))
        fresh = {"state": JobState.QUEUED.value, "not_before": now, "first_error_at": None, "done_at": None, **_FREE}
        return _announced(conn, ended.values(**fresh)) == 1


def waiting_jobs(kind: JobKind, queue: str | None, now: float) -> ColumnElement[bool]:
    """What may be leased at ``now``."""
    free = and_(jobs.c.state == JobState.QUEUED.value, jobs.c.not_before <= now)
    run_out = and_(jobs.c.state == JobState.LEASED.value, jobs.c.lease_until <= now)
    waiting = and_(jobs.c.kind == kind.value, or_(free, run_out))
    return waiting if queue is None else and_(waiting, jobs.c.queue == queue)


def lease(conn: Connection, ids: list[int], owner: str, until: float) -> list[Job]:
    """Lease these jobs, locked by the caller's transaction, in their order."""
    if not ids:
        return []
    mine = {"state": JobState.LEASED.value, "lease_owner": owner, "lease_until": until}
    counted = {"attempts": jobs.c.attempts + 1, "unfinished": jobs.c.unfinished + 1}
    rows = conn.execute(update(jobs).where(jobs.c.id.in_(ids)).values(**mine, **counted).returning(*jobs.c)).mappings()
    return sorted((job_of(row) for row in rows), key=lambda job: ids.index(job.id))


def bury_killers(conn: Connection, waiting: ColumnElement[bool], now: float) -> None:
    """Give up what stopped its worker too often, with an alert. ``waiting``: among these."""
    error = f"the worker stopped while working on it {UNFINISHED_LIMIT} times"
    dead = {"state": JobState.DEAD.value, "done_at": now, "last_error": error, "lease_owner": "", "lease_until": 0.0}
    killers = update(jobs).where(waiting, jobs.c.unfinished >= UNFINISHED_LIMIT).values(**dead)
    for row in conn.execute(killers.returning(jobs.c.kind, jobs.c.study_uid)).all():
        record_event(conn, dead_event(JobKind(row.kind), row.study_uid, error), now)


def has_place(conn: Connection, kind: JobKind, queue: str, most: int, now: float) -> bool:
    """Whether fewer than ``most`` owners hold leases of the queue; true for one caller at a time until its transaction ends."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:class, hashtext(:queue))"), {"class": _PLACES_LOCK, "queue": queue})
    held = (jobs.c.state == JobState.LEASED.value, jobs.c.kind == kind.value, jobs.c.queue == queue, jobs.c.lease_until > now)
    return conn.execute(select(func.count(jobs.c.lease_owner.distinct())).where(*held)).scalar_one() < most


def _announced(conn: Connection, made_due: Update) -> int:
    """Execute it; whoever waits for such jobs is woken at the commit. How many there are."""
    rows = conn.execute(made_due.returning(jobs.c.kind, jobs.c.queue)).all()
    for kind, queue in {(row.kind, row.queue) for row in rows}:
        announce(conn, topic_of(JobKind(kind), queue))
    return len(rows)


def _finish(conn: Connection, job: Job, owner: str, **values: Any) -> None:
    if not conn.execute(update(jobs).where(*_held(job, owner)).values(**{**_FREE, **values})).rowcount:
        raise LeaseLost(f"Job {job.id} is no longer leased to this worker")


def _held(job: Job, owner: str) -> tuple[ColumnElement[bool], ...]:
    """``attempts`` fences an owner off from its own earlier lease of the same job."""
    leased = jobs.c.state == JobState.LEASED.value
    return (jobs.c.id == job.id, leased, jobs.c.lease_owner == owner, jobs.c.attempts == job.attempts)


def _error(job: Job, error: str, now: float) -> dict[str, Any]:
    return {"last_error": error, "first_error_at": now if job.first_error_at is None else job.first_error_at}


def dead_event(kind: JobKind, study_uid: str, error: str) -> NewEvent:
    """The alert that a job was given up."""
    return NewEvent(
        EventKind.JOB_DEAD, f"A job of the kind {kind.value!r} was given up: {error}", Severity.ALERT, study_uid=study_uid
    )
