"""Storage commitment that peers ask of us (PS3.4 annex J): each request is kept until the peer has our report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.tables import commitments_asked, documents, instances

_AT_ONCE: Final = 500  # UIDs of one statement

Named = tuple[str, str]  # SOP Class UID, SOP Instance UID


class AskState(StrEnum):
    """Where a request stands."""

    WAITING = "waiting"  # for its report
    REPORTED = "reported"
    GIVEN_UP = "given up"  # the peer did not take the report for too long


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``calling_ae``: who asked; ``called_ae``: as whom we were called, and answer."""

    transaction_uid: str
    calling_ae: str
    called_ae: str
    objects: tuple[Named, ...]
    attempts: int = 0
    asked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """An object that is here. ``path``: relative to the file store's root. ``received``: else it is our own document."""

    sop_class_uid: str
    path: str
    received: bool


class Noted(StrEnum):
    """What became of a request."""

    NEW = "new"  # it is kept, and its report waits
    KNOWN = "known"  # the same waits for its report already
    ANOTHER = "another"  # another request of this peer has its transaction UID


def note_ask(conn: Connection, ask: Ask, now: float, claim_s: float = 0.0) -> Noted:
    """Keep a request; the same again is kept once, and reported again where that was done or given up.

    ``claim_s``: for so many seconds nobody else takes a new one up.
    """
    mine = (commitments_asked.c.transaction_uid == ask.transaction_uid, commitments_asked.c.calling_ae == ask.calling_ae)
    objects = json.dumps(ask.objects)
    fresh = {"state": AskState.WAITING.value, "attempts": 0, "asked_at": now, "next_at": now + claim_s, "last_error": ""}
    held = conn.execute(select(commitments_asked.c.objects, commitments_asked.c.state).where(*mine)).first()
    if held is not None:
        if held.objects != objects:
            return Noted.ANOTHER
        if held.state == AskState.WAITING.value:
            return Noted.KNOWN
        _change(conn, ask, **fresh)
        return Noted.NEW
    key = {"transaction_uid": ask.transaction_uid, "calling_ae": ask.calling_ae, "called_ae": ask.called_ae}
    conn.execute(insert(commitments_asked).values(**key, objects=objects, **fresh))
    return Noted.NEW


def take_due(db: Database, lease_s: float, now: float, most: int = 20) -> tuple[Ask, ...]:
    """Requests whose report is due, for this caller alone during ``lease_s`` seconds."""
    table = commitments_asked.c
    due = (table.state == AskState.WAITING.value, table.next_at <= now)
    with db.read() as conn:  # an idle node asks often: it must not hold the writers up
        if conn.execute(select(table.transaction_uid).where(*due).limit(1)).first() is None:
            return ()
    with db.write() as conn:
        query = select(commitments_asked).where(*due).order_by(table.next_at).limit(most).with_for_update(skip_locked=True)
        found = [_ask(row) for row in conn.execute(query).mappings()]
        for one in found:
            _change(conn, one, next_at=now + lease_s, attempts=one.attempts + 1)
    return tuple(found)


def reported(conn: Connection, ask: Ask) -> None:
    """The peer has the report."""
    _change(conn, ask, state=AskState.REPORTED.value, last_error="")


def report_later(conn: Connection, ask: Ask, error: str, next_at: float) -> None:
    """``error``: a plain sentence without patient data."""
    _change(conn, ask, next_at=next_at, last_error=error)


def give_up(conn: Connection, ask: Ask, error: str, now: float) -> None:
    """Report no more; an operator is told."""
    _change(conn, ask, state=AskState.GIVEN_UP.value, last_error=error)
    text = f"A storage commitment report for {len(ask.objects)} objects was given up: {error}"
    record_event(conn, NewEvent(EventKind.FAILURE, text[:500], Severity.ALERT, calling_ae=ask.calling_ae), now)


def held_objects(conn: Connection, sop_uids: Sequence[str]) -> dict[str, list[Held]]:
    """What is here under each of some UIDs: received objects, set aside or not, and our own documents."""
    found: dict[str, list[Held]] = {}
    for at in range(0, len(sop_uids), _AT_ONCE):
        some = sop_uids[at : at + _AT_ONCE]
        of_received = select(instances.c.sop_uid, instances.c.sop_class_uid, instances.c.path)
        for row in conn.execute(of_received.where(instances.c.sop_uid.in_(some))):
            found.setdefault(row.sop_uid, []).append(Held(row.sop_class_uid, row.path, received=True))
        of_ours = select(documents.c.uid, documents.c.sop_class_uid, documents.c.path).where(
            documents.c.sop_class_uid != "", documents.c.purged_at.is_(None)
        )
        for row in conn.execute(of_ours.where(documents.c.uid.in_(some))):
            found.setdefault(row.uid, []).append(Held(row.sop_class_uid, row.path, received=False))
    return found


def _change(conn: Connection, ask: Ask, **values: Any) -> None:
    mine = (commitments_asked.c.transaction_uid == ask.transaction_uid, commitments_asked.c.calling_ae == ask.calling_ae)
    conn.execute(update(commitments_asked).where(*mine).values(**values))


def _ask(row: Any) -> Ask:
    objects = tuple((str(uid), str(instance)) for uid, instance in json.loads(row["objects"]))
    return Ask(row["transaction_uid"], row["calling_ae"], row["called_ae"], objects, row["attempts"], row["asked_at"])
