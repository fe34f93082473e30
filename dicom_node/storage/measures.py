"""What the processes have counted, added up over all of them and over restarts, and what can be counted from rows.

Rows are counted once: a mark says how far, and is moved in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.measures import DELIVERIES, EVENTS, STEP, Delta, Measures
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import JobKind, JobState
from dicom_node.storage.tables import events, gauges, jobs, measures, studies

_MARK: Final = "mark"
_DAY_S: Final = 86400.0
_UNDER_WAY_S: Final = 5.0  # rows younger than this may still be followed by older ones that are being committed


@dataclass(frozen=True, slots=True)
class GaugeRow:
    """The last value that one process told, at ``at``. ``labels``: JSON, sorted."""

    owner: str
    name: str
    labels: str
    value: float
    at: float


def add_measures(conn: Connection, deltas: Sequence[Delta]) -> None:
    """Add to what is there. In the order of their keys, so that no two processes wait for each other."""
    if not deltas:
        return
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = make(measures)
    grown = statement.on_conflict_do_update(
        index_elements=["name", "labels", "bucket"], set_={"value": measures.c.value + statement.excluded.value}
    )
    ordered = sorted(deltas, key=lambda one: (one.name, one.labels, one.bucket))
    conn.execute(grown, [{"name": d.name, "labels": d.labels, "bucket": d.bucket, "value": d.amount} for d in ordered])


def all_measures(conn: Connection) -> tuple[Delta, ...]:
    """Every number, as one amount since the first start."""
    query = select(measures).where(measures.c.name != _MARK).order_by(measures.c.name, measures.c.labels, measures.c.bucket)
    return tuple(Delta(row.name, row.labels, row.bucket, row.value) for row in conn.execute(query))


def set_gauges(conn: Connection, owner: str, values: Collection[tuple[str, str, float]], now: float) -> None:
    """Replace what a process tells of itself; what processes told that are gone for a day is forgotten."""
    if not values:
        return
    conn.execute(delete(gauges).where(or_(gauges.c.owner == owner, gauges.c.at < now - _DAY_S)))
    conn.execute(
        insert(gauges), [{"owner": owner, "name": n, "labels": labels, "value": v, "at": now} for n, labels, v in values]
    )


def fresh_gauges(conn: Connection, since: float) -> tuple[GaugeRow, ...]:
    """What was told since then."""
    query = select(gauges).where(gauges.c.at >= since).order_by(gauges.c.name, gauges.c.labels, gauges.c.owner)
    return tuple(GaugeRow(**row) for row in conn.execute(query).mappings())


def fold(db: Database, now: float) -> None:
    """Count events and finished deliveries that were not counted yet. Raises StorageError."""
    with db.read() as conn:  # nothing new: no writer is held up
        until = now - _UNDER_WAY_S
        idle = _newest_event(conn, until) <= _marked(conn, "events", -1) and not _any_done(conn, until)
    if not idle:
        with db.write() as conn:
            _fold_events(conn, until)
            _fold_deliveries(conn, until)


def _newest_event(conn: Connection, until: float) -> int:
    newest = select(events.c.id).where(events.c.at <= until).order_by(events.c.id.desc()).limit(1)
    return conn.execute(newest).scalar() or 0


def _any_done(conn: Connection, until: float) -> bool:
    since = _marked(conn, "deliveries", -1)
    return since < 0 or conn.execute(_delivered(since, until).limit(1)).first() is not None


def _fold_events(conn: Connection, until: float) -> None:
    since, last = _held_mark(conn, "events", 0), _newest_event(conn, until)
    if last <= since:
        return
    kinds = (events.c.kind, events.c.severity)
    new = select(*kinds, func.count().label("number")).where(events.c.id > since, events.c.id <= last).group_by(*kinds)
    counted = Measures()
    for row in conn.execute(new):
        counted.count(EVENTS, row.number, kind=row.kind, severity=row.severity)
    add_measures(conn, counted.take())
    _mark(conn, "events", float(last))


def _fold_deliveries(conn: Connection, until: float) -> None:
    since = _held_mark(conn, "deliveries", until)
    counted = Measures()
    for row in conn.execute(_delivered(since, until)):
        counted.count(DELIVERIES, destination=row.queue, outcome="delivered")
        counted.observe(STEP, row.done_at - row.created_at, step="delivery")
        if row.done_at < row.last_instance_at:
            continue  # of images that another revision covers
        counted.observe(STEP, row.done_at - row.last_instance_at, step="total")
        if row.first_at >= row.done_at:
            counted.observe(STEP, row.done_at - row.last_instance_at, step="first_result")
    add_measures(conn, counted.take())
    _mark(conn, "deliveries", until)


def _delivered(since: float, until: float) -> Select[tuple[str, float, float, float, float]]:
    """Finished deliveries; ``first_at``: when the first of the study since its last image was finished."""
    done = and_(jobs.c.kind == JobKind.DELIVER.value, jobs.c.state == JobState.DONE.value)
    other = jobs.alias()
    of_the_same = and_(
        other.c.study_uid == jobs.c.study_uid,
        other.c.kind == JobKind.DELIVER.value,
        other.c.state == JobState.DONE.value,
        other.c.done_at > studies.c.last_instance_at,
    )
    first = select(func.min(other.c.done_at)).where(of_the_same).scalar_subquery().label("first_at")
    return (
        select(jobs.c.queue, jobs.c.created_at, jobs.c.done_at, studies.c.last_instance_at, first)
        .join(studies, studies.c.study_uid == jobs.c.study_uid)
        .where(done, jobs.c.done_at > since, jobs.c.done_at <= until)
    )


def _marked(conn: Connection, what: str, unknown: float) -> float:
    """How far was counted."""
    found = conn.execute(select(measures.c.value).where(*_the_mark(what))).scalar()
    return unknown if found is None else float(found)


def _held_mark(conn: Connection, what: str, first: float) -> float:
    """The same, held until the transaction ends, so that one process counts at a time; made where there is none."""
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    made = make(measures).values(name=_MARK, labels=what, bucket="", value=first)
    conn.execute(made.on_conflict_do_nothing(index_elements=["name", "labels", "bucket"]))
    return float(conn.execute(select(measures.c.value).where(*_the_mark(what)).with_for_update()).scalar_one())


def _mark(conn: Connection, what: str, value: float) -> None:
    conn.execute(update(measures).where(*_the_mark(what)).values(value=value))


def _the_mark(what: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return measures.c.name == _MARK, measures.c.labels == what
