"""Instances: which object lies in which file, and what is done with one that came before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, Protocol

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.prepared import run
from dicom_node.storage.studies import Arrival, add_to_study, patients_of
from dicom_node.storage.tables import instances


class Outcome(StrEnum):
    """What became of a received instance. All but the last are a success for its sender."""

    STORED = "stored"  # new
    DUPLICATE = "duplicate"  # the same bytes are here already; nothing changed
    CONFLICT = "conflict"  # kept and alerted: its UID or its study belongs to something else
    REFUSED = "refused"  # such a conflict, and not kept


class ConflictRule(StrEnum):
    """What is done with other content under a known SOP Instance UID, or another patient's image in a study."""

    KEEP_BOTH = "keep-both"  # the later one is kept and never read
    NEWEST = "newest"  # both are kept; within its study and patient the later one is read, and the earlier set aside
    REFUSE = "refuse"  # the later one is refused


class Conflict(StrEnum):
    """Why an instance cannot simply be added."""

    CONTENT = "The same SOP Instance UID came with other content"
    STUDY = "The same SOP Instance UID came in another study"
    PATIENT = "The study holds images of another patient"


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
    identity: str = ""  # of its study, see ``storage.identities``; not kept with the instance


_COLUMNS = tuple(one.name for one in fields(NewInstance) if one.name != "identity")
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
    """What was done. ``path``: where the instance's file belongs, or lies already where it is a duplicate; else empty."""

    outcome: Outcome
    copy: int
    path: str = field(default="", compare=False)
    conflict: Conflict | None = field(default=None, compare=False)


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
    """What one transaction will write. ``patients``: of each study, whose it is. ``replaced``: rows to be set aside."""

    patients: dict[str, str]
    rule: ConflictRule
    replaced: list[int] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[NewEvent] = field(default_factory=list)
    arrivals: dict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    again: Counter[str] = field(default_factory=Counter)  # of each study's arrivals, those that count already


def record_instance(conn: Connection, new: NewInstance, now: float) -> Recorded:
    """As ``record_instances``, of one that has its place; bytes are told apart by ``sha256``."""
    return record_instances(conn, [_Placed(new)], now)[0]


def record_instances(
    conn: Connection, batch: Sequence[Incoming], now: float, rule: ConflictRule = ConflictRule.KEEP_BOTH
) -> tuple[Recorded, ...]:
    """Record received instances, no two of one UID, together with their studies, in the caller's transaction.

    The same SOP Instance UID with the same bytes changes nothing. With other bytes, or in a study of another patient, an alert
    is recorded, and ``rule`` decides; by default the instance is kept under the next copy number and set aside, and its study
    is not opened again. The caller moves each file to its ``path`` before the transaction ends:
    the row, not yet seen by others, holds the place.
    """
    changes = _Changes(patients_of(conn, {one.new.study_uid for one in batch}), rule)
    known = _known(conn, [one.new.sop_uid for one in batch])
    recorded = tuple(
        _decide(one, find_instance(conn, one.new.sop_uid) if one.new.sop_uid in known else (), changes, now) for one in batch
    )
    if changes.replaced:
        conn.execute(update(instances).where(instances.c.id.in_(changes.replaced)).values(set_aside=True))
    if changes.rows:
        run(conn, _INSERT, changes.rows)
    for uid, arrivals in changes.arrivals.items():
        add_to_study(conn, arrivals[-1], now, len(arrivals) - changes.again[uid])
    for alert in changes.alerts:
        record_event(conn, alert, now)
    return recorded


def _decide(one: Incoming, held: tuple[InstanceRow, ...], changes: _Changes, now: float) -> Recorded:
    new = one.new
    same = next((row for row in held if one.same_as(row)), None)
    if same is not None:
        return Recorded(Outcome.DUPLICATE, same.copy, same.path)
    conflict, copy = _conflict(new, held, changes.patients), len(held)
    if conflict and changes.rule is ConflictRule.REFUSE:
        changes.alerts.append(_alert(new, f"{conflict}; the later one is refused"))
        return Recorded(Outcome.REFUSED, copy, conflict=conflict)
    newest = _is_newest(new, conflict, held, changes)
    path = one.place(copy)
    row = dict(zip(_COLUMNS, _values_of(new), strict=True))
    row.update(path=path, copy=copy, set_aside=bool(conflict) and not newest, received_at=now)
    changes.rows.append(row)
    if conflict:
        rest = "the later one is read from now on" if newest else "the later one is set aside"
        changes.alerts.append(_alert(new, f"{conflict}; both are kept, {rest}"))
        if not newest:
            return Recorded(Outcome.CONFLICT, copy, path, conflict)
        changes.replaced += [row.id for row in held]
        changes.again[new.study_uid] += any(not row.set_aside for row in held)
    changes.patients.setdefault(new.study_uid, new.patient_digest)
    changes.arrivals[new.study_uid].append(Arrival(new.study_uid, new.patient_digest, new.calling_ae, new.called_ae, new.host))
    return Recorded(Outcome.CONFLICT if conflict else Outcome.STORED, copy, path, conflict)


def _is_newest(new: NewInstance, conflict: Conflict | None, held: tuple[InstanceRow, ...], changes: _Changes) -> bool:
    """Whether it takes the place of what is held under its UID: only within its study and patient."""
    if conflict is not Conflict.CONTENT or changes.rule is not ConflictRule.NEWEST:
        return False
    return changes.patients.get(new.study_uid) == new.patient_digest and all(row.study_uid == new.study_uid for row in held)


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


def _conflict(new: NewInstance, held: tuple[InstanceRow, ...], patients: dict[str, str]) -> Conflict | None:
    if held and held[0].study_uid != new.study_uid:
        return Conflict.STUDY
    if held:
        return Conflict.CONTENT
    if patients.get(new.study_uid, new.patient_digest) != new.patient_digest:
        return Conflict.PATIENT
    return None


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
