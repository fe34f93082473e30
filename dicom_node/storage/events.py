"""What an operator must be able to see later: refusals, conflicts, failures, each with a plain reason without patient data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, insert, select

from dicom_node.storage.tables import events

_LIMITS = {"text": 500, "study_uid": 64, "sop_uid": 64, "calling_ae": 16, "host": 64}


class EventKind(StrEnum):
    """What happened."""

    REJECTED_ASSOCIATION = "rejected association"  # a peer that is not allowed, or too many at once
    ABORTED_ASSOCIATION = "aborted association"  # it ended otherwise than by a release
    REFUSED_INSTANCE = "refused instance"  # the sender got a failure status
    CONFLICT = "conflict"  # the same UID with other bytes, or another patient in the study
    QUARANTINED = "quarantined"  # kept but never read
    UNREADABLE = "unreadable"  # stored, but no image could be made of it
    NOT_ROUTED = "not routed"  # no rule wants the study read
    HELD_DOCUMENT = "held document"  # a document of ours fails its own check and is not sent
    JOB_DEAD = "job dead"  # a job was given up
    FAILURE = "failure"  # something of the node itself failed
    PURGED = "purged"  # retention removed what was old, or found nothing that it may remove
    DRIFT = "drift"  # what a scanner sends, or what is read of it, is no longer as it was


class Severity(StrEnum):
    """Who must look."""

    INFO = "info"  # nobody
    WARNING = "warning"  # an operator, in the day's round
    ALERT = "alert"  # an operator, now


@dataclass(frozen=True, slots=True)
class NewEvent:
    """``text`` is a plain sentence without patient data; longer than 500 characters it is cut."""

    kind: EventKind
    text: str
    severity: Severity = Severity.WARNING
    study_uid: str = ""
    sop_uid: str = ""
    calling_ae: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class EventRow:
    """A recorded event."""

    id: int
    at: float
    kind: EventKind
    text: str
    severity: Severity
    study_uid: str
    sop_uid: str
    calling_ae: str
    host: str


def record_event(conn: Connection, event: NewEvent, now: float) -> None:
    values = {name: getattr(event, name)[:limit] for name, limit in _LIMITS.items()}
    conn.execute(insert(events).values(at=now, kind=event.kind.value, severity=event.severity.value, **values))


def list_events(
    conn: Connection,
    limit: int = 100,
    kind: EventKind | None = None,
    since: float = 0.0,
    study_uid: str | None = None,
) -> tuple[EventRow, ...]:
    """The newest first."""
    wanted = {"kind": kind and kind.value, "study_uid": study_uid}
    named = (events.c[name] == value for name, value in wanted.items() if value is not None)
    query = select(events).where(events.c.at >= since, *named).order_by(events.c.id.desc()).limit(limit)
    return tuple(_event(dict(row)) for row in conn.execute(query).mappings())


def newest_of(conn: Connection, severity: Severity, since: float, limit: int) -> tuple[EventRow, ...]:
    """Those of one severity, the newest first; however many others there are, only these are looked at."""
    mine = (events.c.severity == severity.value, events.c.at >= since)
    query = select(events).where(*mine).order_by(events.c.at.desc(), events.c.id.desc()).limit(limit)
    return tuple(_event(dict(row)) for row in conn.execute(query).mappings())


def _event(row: dict[str, object]) -> EventRow:
    return EventRow(**{**row, "kind": EventKind(row["kind"]), "severity": Severity(row["severity"])})  # type: ignore[arg-type]
