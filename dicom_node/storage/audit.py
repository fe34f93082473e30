"""The audit trail's rows: messages that the repository does not have yet, and how far other tables were gone through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection as Connection
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.storage.events import EventKind
from dicom_node.storage.tables import audit_marks, audit_messages, documents, events, instances, studies

_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A message that waits. ``at``: seconds since 1970 UTC. ``outcome``: Event Outcome Indicator. ``text``: XML."""

    id: int
    at: float
    outcome: int
    text: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """Instances of one study that came from one peer."""

    study_uid: str
    calling_ae: str
    called_ae: str
    host: str
    sop_classes: tuple[str, ...]
    received_at: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """An association that was rejected."""

    calling_ae: str
    host: str
    text: str
    at: float


def add_message(conn: Connection, text: str, outcome: int, now: float) -> None:
    conn.execute(insert(audit_messages).values(at=now, outcome=outcome, text=text))


def waiting_messages(conn: Connection, limit: int, after: int = 0) -> tuple[AuditRow, ...]:
    """In the order in which they were written, those after row ``after``."""
    query = select(audit_messages).where(audit_messages.c.id > after).order_by(audit_messages.c.id).limit(limit)
    return tuple(AuditRow(**row) for row in conn.execute(query).mappings())


def forget_messages(conn: Connection, ids: Sequence[int]) -> None:
    """The repository has them."""
    conn.execute(delete(audit_messages).where(audit_messages.c.id.in_(ids)))


def backlog(conn: Connection) -> tuple[int, float | None]:
    """How many messages wait, and since when the oldest does."""
    row = conn.execute(select(func.count(), func.min(audit_messages.c.at))).one()
    return int(row[0]), row[1]


def hold_mark(conn: Connection, name: str) -> int:
    """The last row of a table that was gone through; held until the transaction ends. It begins at the newest there is."""
    query = select(audit_marks.c.last_id).where(audit_marks.c.name == name).with_for_update()
    found = conn.execute(query).scalar()
    if found is None:
        table = {"instances": instances, "events": events}[name]
        newest = select(func.coalesce(func.max(table.c.id), 0)).scalar_subquery()
        make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
        first = make(audit_marks).values(name=name, last_id=newest)  # two machines may be the first at once
        conn.execute(first.on_conflict_do_nothing(index_elements=["name"]))
        found = conn.execute(query).scalar_one()
    return int(found)


def move_mark(conn: Connection, name: str, last_id: int) -> None:
    conn.execute(update(audit_marks).where(audit_marks.c.name == name).values(last_id=last_id))


def arrivals_after(conn: Connection, mark: int, before: float) -> tuple[tuple[Arrival, ...], int]:
    """What came since row ``mark`` and not after ``before``, by study and peer; and the last row of it.

    Rows that are being written get their numbers before they are seen; ``before`` must leave them the time for it.
    """
    columns = instances.c
    fresh = select(func.min(columns.id)).where(columns.id > mark, columns.received_at > before).scalar_subquery()
    query = select(columns.id, *(columns[name] for name in _OF_ARRIVAL)).where(
        columns.id > mark, columns.received_at <= before, columns.id < func.coalesce(fresh, columns.id + 1)
    )
    rows = conn.execute(query.order_by(columns.id).limit(_AT_ONCE)).all()
    grouped: dict[tuple[str, str, str, str], list[tuple[str, float]]] = {}
    for row in rows:
        key = (row.study_uid, row.calling_ae, row.called_ae, row.host)
        grouped.setdefault(key, []).append((row.sop_class_uid, row.received_at))
    found = tuple(Arrival(*key, tuple(one[0] for one in some), some[-1][1]) for key, some in grouped.items())
    return found, rows[-1].id if rows else mark


_OF_ARRIVAL: Final = ("study_uid", "calling_ae", "called_ae", "host", "sop_class_uid", "received_at")


def refusals_after(conn: Connection, mark: int, before: float) -> tuple[tuple[Refusal, ...], int]:
    """Associations rejected since row ``mark`` and not after ``before``, and the last row that was looked at.

    As in ``arrivals_after``, a row that is younger than ``before`` stops those that were numbered after it.
    """
    columns = events.c
    fresh = select(func.min(columns.id)).where(columns.id > mark, columns.at > before).scalar_subquery()
    query = select(events).where(columns.id > mark, columns.at <= before, columns.id < func.coalesce(fresh, columns.id + 1))
    query = query.order_by(columns.id).limit(_AT_ONCE)
    rows = conn.execute(query).all()
    rejected = EventKind.REJECTED_ASSOCIATION.value
    found = tuple(Refusal(row.calling_ae, row.host, row.text, row.at) for row in rows if row.kind == rejected)
    return found, rows[-1].id if rows else mark


def paths_of(conn: Connection, study_uid: str) -> tuple[str, ...]:
    """Files in whose header the patient may be looked up: one of the study's images, or its DICOM documents."""
    image = select(instances.c.path).where(instances.c.study_uid == study_uid, instances.c.set_aside.is_(False)).limit(1)
    made = (documents.c.study_uid == study_uid, documents.c.sop_class_uid != "", documents.c.purged_at.is_(None))
    papers = select(documents.c.path).where(*made).limit(1)
    return tuple(path for query in (image, papers) for path in conn.execute(query).scalars())


def sop_classes_of(conn: Connection, study_uid: str) -> dict[str, int]:
    """SOP class UID to number, of a study's images."""
    query = select(instances.c.sop_class_uid, func.count()).where(instances.c.study_uid == study_uid)
    return {uid: int(count) for uid, count in conn.execute(query.group_by(instances.c.sop_class_uid))}


def patient_digest_of(conn: Connection, study_uid: str) -> str:
    found = conn.execute(select(studies.c.patient_digest).where(studies.c.study_uid == study_uid)).scalar()
    return str(found or "")
