"""Instances: which object lies in which file, and what is done with one that came before."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

from sqlalchemy import Connection, RowMapping, insert, select

from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.studies import Arrival, add_to_study, lock_study
from dicom_node.storage.tables import instances


class Outcome(StrEnum):
    """What became of a received instance. All three are a success for its sender."""

    STORED = "stored"  # new
    DUPLICATE = "duplicate"  # the same bytes are here already; nothing changed
    CONFLICT = "conflict"  # kept, set aside and alerted: its UID or its study belongs to something else


@dataclass(frozen=True, slots=True)
class NewInstance:
    """An instance whose file is on the disk for good.

    ``size`` (bytes) and ``sha256`` are of the data set as sent, ``path`` relative to the file store's root.
    ``patient_digest`` tells patients apart without naming one.
    ``modality``, ``body_part``, ``requested_priority`` are the DICOM defined terms as sent, empty where absent.
    """

    sop_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    transfer_syntax: str
    path: str
    size: int
    sha256: str
    patient_digest: str
    calling_ae: str = ""
    called_ae: str = ""
    host: str = ""
    modality: str = ""
    body_part: str = ""
    requested_priority: str = ""


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """A stored instance. ``copy`` is 0 for the first under its UID; ``set_aside``: kept, never read."""

    id: int
    copy: int
    set_aside: bool
    received_at: float
    sop_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    transfer_syntax: str
    path: str
    size: int
    sha256: str
    patient_digest: str
    calling_ae: str
    called_ae: str
    host: str
    modality: str
    body_part: str
    requested_priority: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What ``record_instance`` did."""

    outcome: Outcome
    copy: int


def record_instance(conn: Connection, new: NewInstance, now: float) -> Recorded:
    """Record a received instance together with its study, in the caller's transaction.

    The same SOP Instance UID with the same bytes changes nothing. With other bytes, or in a study of another patient, the
    instance is kept under the next copy number, set aside, and an alert is recorded; its study is not opened again.
    """
    held = find_instance(conn, new.sop_uid)
    same = next((row for row in held if row.sha256 == new.sha256), None)
    if same is not None:
        return Recorded(Outcome.DUPLICATE, same.copy)
    reason = _conflict(conn, new, held)
    copy = len(held)
    _insert(conn, new, copy, bool(reason), now)
    if reason:
        record_event(conn, _alert(new, reason), now)
        return Recorded(Outcome.CONFLICT, copy)
    add_to_study(conn, Arrival(new.study_uid, new.patient_digest, new.calling_ae, new.called_ae, new.host), now)
    return Recorded(Outcome.STORED, copy)


def find_instance(conn: Connection, sop_uid: str) -> tuple[InstanceRow, ...]:
    """All that came under a UID, the first first."""
    query = select(instances).where(instances.c.sop_uid == sop_uid).order_by(instances.c.copy)
    return tuple(_instance(row) for row in conn.execute(query).mappings())


def instances_of(conn: Connection, study_uid: str, include_set_aside: bool = False) -> tuple[InstanceRow, ...]:
    """What may be read of a study, in the order of arrival."""
    query = select(instances).where(instances.c.study_uid == study_uid).order_by(instances.c.id)
    if not include_set_aside:
        query = query.where(instances.c.set_aside.is_(False))
    return tuple(_instance(row) for row in conn.execute(query).mappings())


def _conflict(conn: Connection, new: NewInstance, held: tuple[InstanceRow, ...]) -> str:
    if held and held[0].study_uid != new.study_uid:
        return "The same SOP Instance UID came in another study; both are kept, the later one is set aside"
    if held:
        return "The same SOP Instance UID came with other content; both are kept, the later one is set aside"
    study = lock_study(conn, new.study_uid)
    if study is not None and study.patient_digest != new.patient_digest:
        return "The study holds images of another patient; this image is kept but set aside"
    return ""


def _insert(conn: Connection, new: NewInstance, copy: int, set_aside: bool, now: float) -> None:
    conn.execute(insert(instances).values(**asdict(new), copy=copy, set_aside=set_aside, received_at=now))


def _alert(new: NewInstance, reason: str) -> NewEvent:
    return NewEvent(
        EventKind.CONFLICT,
        reason,
        Severity.ALERT,
        study_uid=new.study_uid,
        sop_uid=new.sop_uid,
        calling_ae=new.calling_ae,
        host=new.host,
    )


def _instance(row: RowMapping) -> InstanceRow:
    return InstanceRow(**row)
