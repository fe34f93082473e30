"""Durable work: one table for readings and deliveries.

A job is claimed, never taken away: it stays in the table under a lease, and when its worker dies the lease runs out and
another worker takes it. Whoever finishes must still hold the lease. All times are seconds since 1970 UTC.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.errors import LeaseLost
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.tables import jobs

UNFINISHED_LIMIT = 5  # claims in a row without a word from the worker, after which a job is held to be what kills it
_FREE = {"lease_owner": "", "lease_until": 0.0, "unfinished": 0}


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # waits for a worker, or for its ``not_before``
    LEASED = "leased"  # a worker has it until ``lease_until``
    AWAITING = "awaiting"  # the peer has stored it and has not yet committed itself to keep it
    DONE = "done"  # finished; kept, so that the same work is not queued again
    DEAD = "dead"  # given up; an operator may run it again


class JobKind(StrEnum):
    """What a job is for."""

    READ = "read"
    DELIVER = "deliver"


class Priority(IntEnum):
    """The lower, the sooner; any whole number between may be used."""

    STAT = 0
    URGENT = 10
    ROUTINE = 20
    RESEARCH = 30


@dataclass(frozen=True, slots=True)
class NewJob:
    """Work to be queued. ``queue``: the destination's name for a delivery, "read" for a reading; ``payload`` must fit JSON.

    ``idempotency_key`` is unique for ever (at most 255 characters): the same key is queued once.
    """

    kind: JobKind
    queue: str
    idempotency_key: str
    study_uid: str
    payload: Mapping[str, Any]
    priority: int = Priority.ROUTINE
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stood when it was read.

    ``attempts`` counts all claims, ``unfinished`` those since a worker last said how it went.
    """

    id: int
    kind: JobKind
    queue: str
    idempotency_key: str
    study_uid: str
    payload: dict[str, Any]
    priority: int
    state: JobState
    attempts: int
    unfinished: int
    not_before: float
    lease_owner: str
    lease_until: float
    created_at: float
    first_error_at: float | None
    last_error: str
    done_at: float | None


def enqueue(conn: Connection, job: NewJob, now: float) -> bool:
    """Queue a job in the caller's transaction; False when its key is known already, whatever became of that job."""
    values = {
        **{name: getattr(job, name) for name in ("queue", "idempotency_key", "study_uid", "not_before")},
        **{"kind": job.kind.value, "priority": int(job.priority), "payload": json.dumps(job.payload, sort_keys=True)},
        **{"state": JobState.QUEUED.value, "attempts": 0, "created_at": now, "last_error": "", **_FREE},
    }
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    return conn.execute(make(jobs).values(**values).on_conflict_do_nothing(index_elements=["idempotency_key"])).rowcount == 1


def claim(db: Database, kind: JobKind, queue: str | None, owner: str, limit: int, lease_s: float, now: float) -> list[Job]:
    """Lease up to ``limit`` jobs to ``owner`` for ``lease_s`` seconds, strictly by priority, then age.

    ``queue`` None: of any queue. Leases that ran out count as waiting. A job whose last worker stopped in the middle is
    leased alone, so that it can harm no other; after ``UNFINISHED_LIMIT`` such stops it is buried.
    """
    waiting = _waiting(kind, queue, now)
    with db.read() as conn:  # an idle node asks many times a second: it must not hold the writers up
        if conn.execute(select(jobs.c.id).where(waiting).limit(1)).first() is None:
            return []
    with db.write() as conn:
        _bury_killers(conn, waiting, now)
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
    """Give back jobs that were not begun (an orderly stop); how many were still the owner's."""
    ids = [job.id for job in held]
    with db.write() as conn:
        mine = update(jobs).where(jobs.c.id.in_(ids), jobs.c.lease_owner == owner, jobs.c.state == JobState.LEASED.value)
        return conn.execute(mine.values(state=JobState.QUEUED.value, **_FREE)).rowcount


def release_dead(db: Database, is_alive: Callable[[str], bool]) -> int:
    """Free the leases of owners that no longer live (see ``storage.owner``); how many. Called once when a node starts."""
    with db.write() as conn:
        leased = jobs.c.state == JobState.LEASED.value
        gone = [
            owner
            for owner in conn.execute(select(jobs.c.lease_owner).where(leased).distinct()).scalars()
            if not is_alive(owner)
        ]
        freed = {"state": JobState.QUEUED.value, "lease_owner": "", "lease_until": 0.0}
        return conn.execute(update(jobs).where(leased, jobs.c.lease_owner.in_(gone)).values(**freed)).rowcount


def rerun(db: Database, job_id: int, now: float) -> bool:
    """Queue a dead, done or awaiting job again, at once; False when there is no such job."""
    states = [JobState.DEAD.value, JobState.DONE.value, JobState.AWAITING.value]
    with db.write() as conn:
        ended = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(states))
        fresh = {"state": JobState.QUEUED.value, "not_before": now, "first_error_at": None, "done_at": None, **_FREE}
        return conn.execute(ended.values(**fresh)).rowcount == 1


def get_job(db: Database, job_id: int) -> Job | None:
    with db.read() as conn:
        row = conn.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
    return None if row is None else _job(row)


def list_jobs(
    db: Database, *, kind: JobKind | None = None, state: JobState | None = None, study_uid: str | None = None, limit: int = 100
) -> tuple[Job, ...]:
    """The newest first."""
    wanted = {"kind": kind and kind.value, "state": state and state.value, "study_uid": study_uid}
    query = select(jobs).where(*(jobs.c[name] == value for name, value in wanted.items() if value is not None))
    with db.read() as conn:
        return tuple(_job(row) for row in conn.execute(query.order_by(jobs.c.id.desc()).limit(limit)).mappings())


def _waiting(kind: JobKind, queue: str | None, now: float) -> ColumnElement[bool]:
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
    return sorted((_job(row) for row in rows), key=lambda job: ids.index(job.id))


def _bury_killers(conn: Connection, waiting: ColumnElement[bool], now: float) -> None:
    error = f"the worker stopped while working on it {UNFINISHED_LIMIT} times"
    dead = {"state": JobState.DEAD.value, "done_at": now, "last_error": error, "lease_owner": "", "lease_until": 0.0}
    killers = update(jobs).where(waiting, jobs.c.unfinished >= UNFINISHED_LIMIT).values(**dead)
    for row in conn.execute(killers.returning(jobs.c.kind, jobs.c.study_uid)).all():
        record_event(conn, dead_event(JobKind(row.kind), row.study_uid, error), now)


def _finish(conn: Connection, job: Job, owner: str, **values: Any) -> None:
    """``attempts`` fences an owner off from its own earlier lease of the same job."""
    mine = (
        jobs.c.id == job.id,
        jobs.c.state == JobState.LEASED.value,
        jobs.c.lease_owner == owner,
        jobs.c.attempts == job.attempts,
    )
    if not conn.execute(update(jobs).where(*mine).values(**{**_FREE, **values})).rowcount:
        raise LeaseLost(f"Job {job.id} is no longer leased to this worker")


def _error(job: Job, error: str, now: float) -> dict[str, Any]:
    return {"last_error": error, "first_error_at": now if job.first_error_at is None else job.first_error_at}


def dead_event(kind: JobKind, study_uid: str, error: str) -> NewEvent:
    """The alert that a job was given up."""
    return NewEvent(
        EventKind.JOB_DEAD, f"A job of the kind {kind.value!r} was given up: {error}", Severity.ALERT, study_uid=study_uid
    )


def _job(row: RowMapping) -> Job:
    return Job(**{**row, "kind": JobKind(row["kind"]), "state": JobState(row["state"]), "payload": json.loads(row["payload"])})
