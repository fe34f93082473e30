"""Deliveries that a peer has stored and not yet committed itself to keep (storage commitment, PS3.4 annex J).

Each is a row until the peer's word comes: it survives restarts, and any process may ask and any may hear the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from dicom_node.storage.database import Database
from dicom_node.storage.jobs import Job, JobState, answered, await_answer
from dicom_node.storage.tables import commitment_requests, commitments

_AT_ONCE: Final = 100  # objects of one request
_NEVER: Final = 1e15  # not before it is stored again


@dataclass(frozen=True, slots=True)
class Awaited:
    """One stored object.

    ``sends``: times it was stored. ``asks``: requests since it was last stored. ``accepted``: the peer took the newest
    request, whose answer is overdue from ``next_at`` on.
    """

    job_id: int
    destination: str
    sop_class_uid: str
    sop_uid: str
    transaction_uid: str
    sends: int
    asks: int
    asker: str
    accepted: bool
    stored_at: float
    next_at: float


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What was stored: the UIDs of the object's own header."""

    sop_class_uid: str
    sop_uid: str


def begin(conn: Connection, job: Job, owner: str, stored: StoredObject, now: float) -> None:
    """The peer has stored it: wait for its word, in the caller's transaction. Raises LeaseLost."""
    await_answer(conn, job, owner)
    fresh = {"asks": 0, "accepted": False, "transaction_uid": "", "asker": "", "stored_at": now, "next_at": now}
    again = update(commitments).where(commitments.c.job_id == job.id)
    if conn.execute(again.values(**fresh, sends=commitments.c.sends + 1)).rowcount:
        return
    what = {"destination": job.queue, "sop_class_uid": stored.sop_class_uid, "sop_uid": stored.sop_uid}
    conn.execute(insert(commitments).values(job_id=job.id, sends=1, **what, **fresh))


def overdue(conn: Connection, destination: str, now: float) -> tuple[Awaited, ...]:
    """Those whose answer should have come by now; no other process gets them before this transaction ends."""
    due = (*_due(destination, now), commitments.c.accepted.is_(True))
    query = select(commitments).where(*due).order_by(commitments.c.job_id).with_for_update(skip_locked=True)
    return tuple(Awaited(**row) for row in conn.execute(query).mappings())


def anything_due(db: Database, destination: str, now: float) -> bool:
    """Whether there is something to ask about or to give up waiting for; asked often, and holds no writer up."""
    with db.read() as conn:
        return conn.execute(select(commitments.c.job_id).where(*_due(destination, now)).limit(1)).first() is not None


def all_awaited(conn: Connection, destination: str) -> tuple[Awaited, ...]:
    """Everything stored at a destination and not confirmed."""
    query = select(commitments).where(commitments.c.destination == destination).order_by(commitments.c.job_id)
    return tuple(Awaited(**row) for row in conn.execute(query).mappings())


def release_dead_askers(db: Database, is_alive: Callable[[str], bool], now: float) -> int:
    """Requests whose process was killed over them are due at once, as they were; how many objects they are about."""
    with db.write() as conn:
        askers = conn.execute(select(commitments.c.asker).where(commitments.c.asker != "").distinct()).scalars()
        gone = [asker for asker in askers if not is_alive(asker)]
        freed = update(commitments).where(commitments.c.asker.in_(gone)).values(asker="", next_at=now)
        return conn.execute(freed).rowcount


def take_request(
    db: Database, destination: str, asker: str, name: Callable[[Sequence[Awaited]], str], hold_s: float, now: float
) -> tuple[Awaited, ...]:
    """Objects to ask about in one request, the asker's alone for ``hold_s`` seconds; nothing where none is due.

    A request that was begun and never taken by the peer (the process was killed, the peer was away) comes again as it was;
    else ``name`` gives the transaction UID of a new one.
    """
    with db.write() as conn:
        query = select(commitments).where(*_due(destination, now), commitments.c.accepted.is_(False))
        ordered = query.order_by(commitments.c.transaction_uid.desc(), commitments.c.job_id).limit(_AT_ONCE)
        found = [Awaited(**row) for row in conn.execute(ordered.with_for_update(skip_locked=True)).mappings()]
        if not found:
            return ()
        begun = found[0].transaction_uid
        chosen = [one for one in found if one.transaction_uid == begun]
        uid = begun or name(chosen)
        asks = {} if begun else {"asks": commitments.c.asks + 1, "transaction_uid": uid}
        ids = [one.job_id for one in chosen]
        taken = update(commitments).where(commitments.c.job_id.in_(ids)).values(asker=asker, next_at=now + hold_s, **asks)
        rows = conn.execute(taken.returning(*commitments.c)).mappings().all()
        if not begun:
            conn.execute(insert(commitment_requests), [{"transaction_uid": uid, "job_id": job_id} for job_id in ids])
    return tuple(sorted((Awaited(**row) for row in rows), key=lambda one: one.job_id))


def request_taken(db: Database, transaction_uid: str, answer_by: float) -> None:
    """The peer has taken the request. Its answer may have come first: then nothing is left to note."""
    with db.write() as conn:
        conn.execute(_asking(transaction_uid).values(accepted=True, asker="", next_at=answer_by))


def request_not_taken(db: Database, transaction_uid: str, again_at: float, error: str, now: float) -> None:
    """Ask the same again at ``again_at``."""
    with db.write() as conn:
        later = _asking(transaction_uid).values(asker="", next_at=again_at).returning(commitments.c.job_id)
        rows = conn.execute(later).scalars().all()
        for job_id in rows:
            answered(conn, job_id, JobState.AWAITING, error, now)


def settle(conn: Connection, one: Awaited, state: JobState, error: str, now: float, not_before: float = 0.0) -> bool:
    """DONE: it is safe there. AWAITING: ask again, at once. QUEUED: store it again from ``not_before`` on. DEAD: give up.

    False where it awaits nothing any more.
    """
    mine = update(commitments).where(commitments.c.job_id == one.job_id)
    if state is JobState.AWAITING:
        conn.execute(mine.values(transaction_uid="", asker="", accepted=False, next_at=now))
    elif state is JobState.QUEUED:
        conn.execute(mine.values(asker="", accepted=False, next_at=_NEVER))
    else:
        conn.execute(delete(commitments).where(commitments.c.job_id == one.job_id))
        conn.execute(delete(commitment_requests).where(commitment_requests.c.job_id == one.job_id))
    return answered(conn, one.job_id, state, error, now, not_before)


def asked_in(conn: Connection, transaction_uid: str) -> tuple[Awaited, ...]:
    """The objects of a request that still await an answer, be it the newest request for them or an earlier one."""
    ids = select(commitment_requests.c.job_id).where(commitment_requests.c.transaction_uid == transaction_uid)
    query = select(commitments).where(commitments.c.job_id.in_(ids)).order_by(commitments.c.job_id)
    return tuple(Awaited(**row) for row in conn.execute(query.with_for_update()).mappings())


def awaited_by(conn: Connection, job_id: int) -> Awaited | None:
    """What one delivery waits for."""
    row = conn.execute(select(commitments).where(commitments.c.job_id == job_id)).mappings().one_or_none()
    return None if row is None else Awaited(**row)


def _due(destination: str, now: float) -> tuple[Any, ...]:
    return (commitments.c.destination == destination, commitments.c.next_at <= now)


def _asking(transaction_uid: str) -> Any:
    return update(commitments).where(commitments.c.transaction_uid == transaction_uid, commitments.c.asker != "")
