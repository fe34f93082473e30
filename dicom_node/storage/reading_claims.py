"""Which reading is next: STAT before everything, then by priority with ageing, so that no study waits for ever.

Each ten of ``priority`` below STAT lets others pass for ``ageing_s`` seconds: a routine study that has waited that much longer
than an urgent one goes first. A claim takes a short look at each priority that waits, along the index, however long the queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from dicom_node.storage.database import Database
from dicom_node.storage.jobs import UNFINISHED_LIMIT, Job, JobKind, JobState, Priority, bury_killers, lease
from dicom_node.storage.tables import jobs

_CLASS: Final = Priority.ROUTINE - Priority.URGENT  # one class of priority
_COLUMNS: Final = (jobs.c.id, jobs.c.study_uid, jobs.c.unfinished, jobs.c.priority, jobs.c.created_at)


class _Waiting(NamedTuple):
    id: int
    study_uid: str
    unfinished: int
    priority: int
    created_at: float


@dataclass(frozen=True, slots=True)
class Wish:
    """What a worker has room for.

    ``limit``: at most so many studies. ``only_stat``: nothing that can wait. ``alone``: it holds none now, so that it may be
    given a study whose last worker stopped in the middle, by itself; until then nothing is given past such a study.
    """

    limit: int
    only_stat: bool = False
    alone: bool = True


def claim_readings(db: Database, queue: str, owner: str, wish: Wish, lease_s: float, ageing_s: float, now: float) -> list[Job]:
    """Lease studies to ``owner`` for ``lease_s`` seconds: no two revisions of one study at once, the next one first.

    A study that stopped its worker ``UNFINISHED_LIMIT`` times is buried, with an alert.
    """
    with db.read() as conn:  # an idle node asks many times a second: it must not hold the writers up
        if not any(_some(conn, waiting) for waiting in _waiting(queue, now)):
            return []
    with db.write() as conn:
        rows = sorted(_next(conn, queue, wish, now), key=lambda row: _rank(row, ageing_s))
        killers = [row.id for row in rows if row.unfinished >= UNFINISHED_LIMIT]
        if killers:
            bury_killers(conn, jobs.c.id.in_(killers), now)
        left = [row for row in _one_of_each(rows) if row.unfinished < UNFINISHED_LIMIT]
        harmless = [row.id for row in takewhile(lambda row: row.unfinished == 0, left)][: wish.limit]
        suspect = [row.id for row in left[:1]] if wish.alone else []
        return lease(conn, harmless or suspect, owner, now + lease_s)


def take_back(db: Database, job: Job, now: float) -> bool:
    """Free a job whose lease has run out; False where it is still held. Whoever held it can save nothing of it any more."""
    with db.write() as conn:
        held = (jobs.c.id == job.id, jobs.c.state == JobState.LEASED.value)
        freed = {"state": JobState.QUEUED.value, "lease_owner": "", "lease_until": 0.0}
        conn.execute(update(jobs).where(*held, jobs.c.lease_until <= now).values(**freed))
        return conn.execute(select(jobs.c.id).where(*held)).first() is None


def _waiting(queue: str, now: float) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """What is due, and what was leased to somebody who let the lease run out."""
    mine = (jobs.c.kind == JobKind.READ.value, jobs.c.queue == queue)
    due = and_(jobs.c.state == JobState.QUEUED.value, *mine, jobs.c.not_before <= now)
    return due, and_(jobs.c.state == JobState.LEASED.value, *mine, jobs.c.lease_until <= now)


def _some(conn: Connection, waiting: ColumnElement[bool]) -> bool:
    return conn.execute(select(jobs.c.id).where(waiting).limit(1)).first() is not None


def _next(conn: Connection, queue: str, wish: Wish, now: float) -> Iterator[_Waiting]:
    """The oldest of each priority, enough of them that the best are among them; locked, past what others have locked."""
    for waiting in _waiting(queue, now):
        for priority in _priorities(conn, waiting):
            if wish.only_stat and priority > Priority.STAT:
                break
            query = select(*_COLUMNS).where(waiting, jobs.c.priority == priority).order_by(jobs.c.created_at, jobs.c.id)
            found = conn.execute(query.limit(wish.limit).with_for_update(skip_locked=True))
            yield from (_Waiting(*row) for row in found)


def _priorities(conn: Connection, waiting: ColumnElement[bool]) -> Iterator[int]:
    """Those that wait, the most urgent first: a step in the index for each."""
    lowest = select(func.min(jobs.c.priority)).where(waiting)
    found = conn.execute(lowest).scalar_one()
    while found is not None:
        yield found
        found = conn.execute(lowest.where(jobs.c.priority > found)).scalar_one()


def _rank(row: _Waiting, ageing_s: float) -> tuple[bool, float, int]:
    """STAT by age alone; the others as if they had come so much later as their priority lets others pass."""
    waits = row.priority > Priority.STAT
    return waits, row.created_at + (ageing_s * row.priority / _CLASS if waits else 0.0), row.id


def _one_of_each(rows: list[_Waiting]) -> list[_Waiting]:
    """One job of each study, in order."""
    first: dict[str, _Waiting] = {}
    for row in rows:
        first.setdefault(row.study_uid, row)
    return list(first.values())
