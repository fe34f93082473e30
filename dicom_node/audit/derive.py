"""Messages of what others have recorded already: received instances and rejected associations.

The receiving loop is not held up by the audit trail, and a crash between the two loses nothing: their rows are the record,
and a mark says how far they were gone through.
"""

from __future__ import annotations

from typing import Final

from dicom_node.audit import events
from dicom_node.audit.auditor import Auditor
from dicom_node.audit.events import Party
from dicom_node.storage.audit import Arrival, Refusal, arrivals_after, hold_mark, move_mark, refusals_after
from dicom_node.storage.database import Database

SETTLED_S: Final = 60.0  # longer than a transaction takes from its row's number to its end, where many write at once


def derive(db: Database, auditor: Auditor, now: float, settled_s: float | None = None) -> int:
    """Write the messages of what came since the last call; how many. Raises StorageError, StorageBusy.

    ``settled_s``: the age of what is gone through; by default none on SQLite, where one transaction writes at a time.
    """
    if not auditor.kept:
        return 0
    if settled_s is None:
        settled_s = 0.0 if db.name.startswith("sqlite") else SETTLED_S
    count = 0
    while step := _arrivals(db, auditor, now - settled_s) + _refusals(db, auditor, now - settled_s):
        count += step
    return count


def _arrivals(db: Database, auditor: Auditor, before: float) -> int:
    with db.write() as conn:
        mark = hold_mark(conn, "instances")
        found, last = arrivals_after(conn, mark, before)
        for one in found:
            study = auditor.study(conn, one.study_uid, one.sop_classes)
            us = _called(auditor.node, one)
            peer = Party(one.calling_ae or one.host or "unknown", (one.calling_ae,) if one.calling_ae else (), one.host)
            auditor.record(conn, events.transferred(peer, us, study, received=True), one.received_at)
        if last != mark:
            move_mark(conn, "instances", last)
    return len(found)


def _called(node: Party, one: Arrival) -> Party:
    return Party(node.id, (one.called_ae,) if one.called_ae else node.ae_titles, node.host)


def _refusals(db: Database, auditor: Auditor, before: float) -> int:
    with db.write() as conn:
        mark = hold_mark(conn, "events")
        found, last = refusals_after(conn, mark, before)
        for one in found:
            auditor.record(conn, events.refused(auditor.node, _refused_peer(one), one.text), one.at)
        if last != mark:
            move_mark(conn, "events", last)
    return len(found)


def _refused_peer(one: Refusal) -> Party:
    return Party(one.calling_ae or one.host or "unknown", (one.calling_ae,) if one.calling_ae else (), one.host)
