"""The outbox of a destination as a whole: what its outage means for the deliveries that wait, and how it stands.

The outbox itself is the job table: one row per document and destination, in the queue of the destination's name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, update

from dicom_node.storage.bell import announce, delivery_topic
from dicom_node.storage.database import Database
from dicom_node.storage.events import record_event
from dicom_node.storage.jobs import Job, JobKind, JobState, dead_event, has_place, lease
from dicom_node.storage.tables import destination_states, jobs


@dataclass(frozen=True, slots=True)
class DestinationState:
    """How a destination stands, as one machine sees it.

    ``state``: "closed" (deliveries flow), "open" (held back until ``next_try_at``) or "half-open" (one is being tried).
    ``failures``: in a row. ``since``: when it came to stand so.
    """

    destination: str
    host: str
    state: str
    failures: int
    since: float
    next_try_at: float
    last_error: str


def claim_probe(db: Database, queue: str, owner: str, lease_s: float, now: float, most: int | None = None) -> list[Job]:
    """Lease one delivery, due or not: of those tried least often, so that one which is itself the fault blocks no probe.

    ``most``: as in ``jobs.claim``.
    """
    run_out = and_(jobs.c.state == JobState.LEASED.value, jobs.c.lease_until <= now)
    waiting = and_(_of(queue), or_(jobs.c.state == JobState.QUEUED.value, run_out))
    order = (jobs.c.attempts, jobs.c.priority, jobs.c.created_at, jobs.c.id)
    with db.write() as conn:
        if most is not None and not has_place(conn, JobKind.DELIVER, queue, most, now):
            return []
        query = select(jobs.c.id).where(waiting).order_by(*order).limit(1).with_for_update(skip_locked=True)
        return lease(conn, list(conn.execute(query).scalars()), owner, now + lease_s)


def delivery_key(document_uid: str, destination: str) -> str:
    """The idempotency key of a document's delivery."""
    return f"deliver:{document_uid}:{destination}"


def delivery_state(conn: Connection, document_uid: str, destination: str) -> JobState | None:
    """How the delivery of a document stands; None where there is none."""
    key = delivery_key(document_uid, destination)
    found = conn.execute(select(jobs.c.state).where(jobs.c.idempotency_key == key)).scalar_one_or_none()
    return JobState(found) if found else None


def hold_back(db: Database, queue: str, error: str, give_up_s: float, now: float) -> int:
    """All waiting deliveries of a destination that is down carry the reason; those that carry one for too long are given up.

    Returns how many were given up, each with an alert.
    """
    waiting = (_of(queue), jobs.c.state == JobState.QUEUED.value)
    dead = {"state": JobState.DEAD.value, "done_at": now}
    with db.write() as conn:
        conn.execute(update(jobs).where(*waiting, jobs.c.first_error_at.is_(None)).values(first_error_at=now, last_error=error))
        expired = update(jobs).where(*waiting, jobs.c.first_error_at < now - give_up_s).values(**dead)
        rows = conn.execute(expired.returning(jobs.c.study_uid, jobs.c.last_error)).all()
        for row in rows:
            record_event(conn, dead_event(JobKind.DELIVER, row.study_uid, row.last_error), now)
    return len(rows)


def hasten(db: Database, queue: str, now: float) -> int:
    """A destination is back: what waits for a later try is due now. How many were."""
    waiting = (_of(queue), jobs.c.state == JobState.QUEUED.value, jobs.c.not_before > now)
    with db.write() as conn:
        announce(conn, delivery_topic(queue))
        return conn.execute(update(jobs).where(*waiting).values(not_before=now)).rowcount


def rerun_dead(db: Database, queue: str, now: float) -> int:
    """Queue all dead deliveries of a destination again, at once; how many there were."""
    dead = (_of(queue), jobs.c.state == JobState.DEAD.value)
    fresh = {"state": JobState.QUEUED.value, "not_before": now, "first_error_at": None, "done_at": None, "unfinished": 0}
    with db.write() as conn:
        announce(conn, delivery_topic(queue))
        return conn.execute(update(jobs).where(*dead).values(**fresh)).rowcount


def save_state(db: Database, state: DestinationState) -> None:
    """Replace what this machine last said of the destination."""
    key = (destination_states.c.destination == state.destination, destination_states.c.host == state.host)
    with db.write() as conn:
        conn.execute(delete(destination_states).where(*key))
        conn.execute(insert(destination_states).values(**asdict(state)))


def destination_states_of(conn: Connection) -> tuple[DestinationState, ...]:
    """Every destination that was ever tried, by name and machine."""
    query = select(destination_states).order_by(destination_states.c.destination, destination_states.c.host)
    return tuple(DestinationState(**row) for row in conn.execute(query).mappings())


def _of(queue: str) -> ColumnElement[bool]:
    return and_(jobs.c.kind == JobKind.DELIVER.value, jobs.c.queue == queue)
