"""What a job is, and looking jobs up. How they are worked is in ``storage.jobs``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from sqlalchemy import RowMapping, select

from dicom_node.storage.database import Database
from dicom_node.storage.tables import jobs


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


def get_job(db: Database, job_id: int) -> Job | None:
    with db.read() as conn:
        row = conn.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
    return None if row is None else job_of(row)


def list_jobs(
    db: Database, *, kind: JobKind | None = None, state: JobState | None = None, study_uid: str | None = None, limit: int = 100
) -> tuple[Job, ...]:
    """The newest first."""
    wanted = {"kind": kind and kind.value, "state": state and state.value, "study_uid": study_uid}
    query = select(jobs).where(*(jobs.c[name] == value for name, value in wanted.items() if value is not None))
    with db.read() as conn:
        return tuple(job_of(row) for row in conn.execute(query.order_by(jobs.c.id.desc()).limit(limit)).mappings())


def job_of(row: RowMapping) -> Job:
    return Job(**{**row, "kind": JobKind(row["kind"]), "state": JobState(row["state"]), "payload": json.loads(row["payload"])})
