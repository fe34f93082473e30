"""Instances: which object lies in which file, and what is done with one that came before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, Protocol

from sqlalchemy import Connection, RowMapping, bindparam, insert, select

from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.prepared import run
from dicom_node.storage.studies import Arrival, add_to_study, patients_of
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
    ``sha256`` is empty for what came over the network: it is compared byte for byte when its UID comes again.
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


_COLUMNS = tuple(one.name for one in fields(NewInstance))
_FEW = 8  # statements that together cost less than one made for the occasion
_values_of = attrgetter(*_COLUMNS)
_INSERT = insert(instances)
_HELD = select(instances.c.id).where(instances.c.sop_uid == bindparam("wanted"))


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
    """What was done. ``path``: where the instance's file belongs, or lies already where it is a duplicate."""

    outcome: Outcome
    copy: int
    path: str = field(default="", compare=False)


class Incoming(Protocol):
    """A received instance whose place is not yet decided."""

    @property
    def new(self) -> NewInstance:
        """Its ``path`` is not looked at."""
        ...

    def same_as(self, held: InstanceRow) -> bool:
        """Whether its data set has the bytes of an instance that is held under its UID."""
        ...

    def place(self, copy: int) -> str:
        """The path of copy number ``copy``, relative to the file store's root."""
        ...


@dataclass(frozen=True, slots=True)
class _Placed:
    """An instance that has its place and its digest."""

    new: NewInstance

    def same_as(self, held: InstanceRow) -> bool:
        return held.sha256 == self.new.sha256

    def place(self, copy: int) -> str:  # noqa: ARG002 - decided before
        return self.new.path


@dataclass(slots=True)
class _Changes:
    """What one transaction will write. ``patients``: of each study, whose it is."""

    patients: dict[str, str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[NewEvent] = field(default_factory=list)
    arrivals: dict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))


def record_instance(conn: Connection, new: NewInstance, now: float) -> Recorded:
    """As ``record_instances``, of one that has its place; bytes are told apart by ``sha256``."""
    return record_instances(conn, [_Placed(new)], now)[0]


def record_instances(conn: Connection, batch: Sequence[Incoming], now: float) -> tuple[Recorded, ...]:
    """Record received instances, no two of one UID, together with their studies, in the caller's transaction.

    The same SOP Instance UID with the same bytes changes nothing. With other bytes, or in a study of another patient, the
    instance is kept under the next copy number, set aside, and an alert is recorded; its study is not opened again.
    The caller moves each file to its ``path`` before the transaction ends: the row, not yet seen by others, holds the place.
    """
    changes = _Changes(patients_of(conn, {one.new.study_uid for one in batch}))
    known = _known(conn, [one.new.sop_uid for one in batch])
    recorded = tuple(
        _decide(one, find_instance(conn, one.new.sop_uid) if one.new.sop_uid in known else (), changes, now) for one in batch
    )
    if changes.rows:
        run(conn, _INSERT, changes.rows)
    for arrivals in changes.arrivals.values():
        add_to_study(conn, arrivals[-1], now, len(arrivals))
    for alert in changes.alerts:
        record_event(conn, alert, now)
    return recorded


def _decide(one: Incoming, held: tuple[InstanceRow, ...], changes: _Changes, now: float) -> Recorded:
    new = one.new
    same = next((row for row in held if one.same_as(row)), None)
    if same is not None:
        return Recorded(Outcome.DUPLICATE, same.copy, same.path)
    reason = _conflict(new, held, changes.patients)
    copy = len(held)
    path = one.place(copy)
    row = dict(zip(_COLUMNS, _values_of(new), strict=True))
    row.update(path=path, copy=copy, set_aside=bool(reason), received_at=now)
    changes.rows.append(row)
    if reason:
        changes.alerts.append(_alert(new, reason))
        return Recorded(Outcome.CONFLICT, copy, path)
    changes.patients.setdefault(new.study_uid, new.patient_digest)
    changes.arrivals[new.study_uid].append(Arrival(new.study_uid, new.patient_digest, new.calling_ae, new.called_ae, new.host))
    return Recorded(Outcome.STORED, copy, path)


def _known(conn: Connection, sop_uids: list[str]) -> set[str]:
    """Those of some UIDs under which something is held."""
    if len(sop_uids) > _FEW:
        return set(conn.execute(select(instances.c.sop_uid).where(instances.c.sop_uid.in_(sop_uids))).scalars())
    return {uid for uid in sop_uids if run(conn, _HELD, [{"wanted": uid}]).first() is not None}


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


def _conflict(new: NewInstance, held: tuple[InstanceRow, ...], patients: dict[str, str]) -> str:
    if held and held[0].study_uid != new.study_uid:
        return "The same SOP Instance UID came in another study; both are kept, the later one is set aside"
    if held:
        return "The same SOP Instance UID came with other content; both are kept, the later one is set aside"
    if patients.get(new.study_uid, new.patient_digest) != new.patient_digest:
        return "The study holds images of another patient; this image is kept but set aside"
    return ""


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
