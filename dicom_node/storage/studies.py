"""Studies: what has come of each, and which revision of it was opened for reading."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, select, text, update

from dicom_node.errors import StorageError
from dicom_node.storage.paths import digest
from dicom_node.storage.prepared import run
from dicom_node.storage.tables import studies


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One study. ``dirty``: instances came since revision ``revision`` (0: none yet) was opened.

    ``instance_count`` counts what may be read: duplicates, conflicts and other patients' instances are not in it.
    ``calling_ae``, ``called_ae`` and ``host`` are those of the latest instance.
    """

    study_uid: str
    patient_digest: str
    first_instance_at: float
    last_instance_at: float
    instance_count: int
    dirty: bool
    revision: int
    calling_ae: str
    called_ae: str
    host: str


_HOLD = text("SELECT pg_advisory_xact_lock(:key)")
_PATIENT = select(studies.c.patient_digest).where(studies.c.study_uid == bindparam("wanted")).with_for_update()
_ADD = (
    update(studies)
    .where(studies.c.study_uid == bindparam("wanted"))
    .values(
        last_instance_at=bindparam("now"),
        dirty=bindparam("yes"),
        calling_ae=bindparam("caller"),
        called_ae=bindparam("called"),
        host=bindparam("from_host"),
        instance_count=studies.c.instance_count + bindparam("more"),
    )
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One new instance, as its study sees it."""

    study_uid: str
    patient_digest: str
    calling_ae: str
    called_ae: str
    host: str


def get_study(conn: Connection, study_uid: str) -> StudyRow | None:
    row = conn.execute(select(studies).where(studies.c.study_uid == study_uid)).mappings().one_or_none()
    return None if row is None else _study(row)


def list_studies(conn: Connection, limit: int = 100) -> tuple[StudyRow, ...]:
    """The latest first."""
    query = select(studies).order_by(studies.c.last_instance_at.desc()).limit(limit)
    return tuple(_study(row) for row in conn.execute(query).mappings())


def page_of_studies(conn: Connection, before: float | None, limit: int) -> tuple[StudyRow, ...]:
    """The latest first, those with their last instance before ``before``. Reads no more rows than twice ``limit``."""
    found: list[StudyRow] = []
    for dirty in (True, False):  # in the order of the index on both columns
        query = select(studies).where(studies.c.dirty.is_(dirty)).order_by(studies.c.last_instance_at.desc()).limit(limit)
        if before is not None:
            query = query.where(studies.c.last_instance_at < before)
        found += [_study(row) for row in conn.execute(query).mappings()]
    return tuple(sorted(found, key=lambda one: -one.last_instance_at)[:limit])


def studies_named(conn: Connection, study_uids: Collection[str]) -> tuple[StudyRow, ...]:
    """Those of these that there are, the latest first."""
    query = select(studies).where(studies.c.study_uid.in_(study_uids)).order_by(studies.c.last_instance_at.desc())
    return tuple(_study(row) for row in conn.execute(query).mappings())


def count_dirty(conn: Connection) -> int:
    """How many studies have instances that no revision covers yet."""
    return conn.execute(select(func.count()).select_from(studies).where(studies.c.dirty.is_(True))).scalar_one()


def dirty_studies(conn: Connection) -> tuple[StudyRow, ...]:
    """Those with instances that no revision covers yet, the longest quiet first."""
    query = select(studies).where(studies.c.dirty.is_(True)).order_by(studies.c.last_instance_at)
    return tuple(_study(row) for row in conn.execute(query).mappings())


def lock_study(conn: Connection, study_uid: str) -> StudyRow | None:
    """The study as it is now, held until the transaction ends."""
    query = select(studies).where(studies.c.study_uid == study_uid).with_for_update()
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else _study(row)


def patients_of(conn: Connection, study_uids: Collection[str]) -> dict[str, str]:
    """The patient digests of those studies that there are.

    All are held until the transaction ends, also those that there are not yet, which several listeners may be about to make;
    and taken in one order everywhere, so that no two processes wait for each other.
    """
    if conn.dialect.name == "postgresql":
        for key in sorted({_lock_key(uid) for uid in study_uids}):
            conn.execute(_HOLD, {"key": key})
    found = {uid: run(conn, _PATIENT, [{"wanted": uid}]).scalar() for uid in sorted(study_uids)}
    return {uid: str(patient) for uid, patient in found.items() if patient is not None}


def add_to_study(conn: Connection, arrival: Arrival, now: float, count: int = 1) -> None:
    """Count ``count`` more instances, note the time, mark the study dirty; its row is made with its first instance."""
    values = {
        "now": now,
        "yes": True,
        "caller": arrival.calling_ae,
        "called": arrival.called_ae,
        "from_host": arrival.host,
        "more": count,
        "wanted": arrival.study_uid,
    }
    if run(conn, _ADD, [values]).rowcount:
        return
    first = {"study_uid": arrival.study_uid, "patient_digest": arrival.patient_digest, "first_instance_at": now}
    latest = {"last_instance_at": now, "calling_ae": arrival.calling_ae, "called_ae": arrival.called_ae, "host": arrival.host}
    conn.execute(insert(studies).values(**first, **latest, dirty=True, instance_count=count, revision=0))


def open_revision(conn: Connection, study_uid: str) -> int:
    """Open the next revision, which covers all that has come; its number. Raises StorageError for an unknown study."""
    changed = conn.execute(
        update(studies)
        .where(studies.c.study_uid == study_uid)
        .values(revision=studies.c.revision + 1, dirty=False)
        .returning(studies.c.revision)
    ).scalar_one_or_none()
    if changed is None:
        raise StorageError(f"There is no study {study_uid}")
    return int(changed)


def restart_quiet_time(conn: Connection, now: float) -> None:
    """After the clock was set back, instances seem to come from the future; they count as coming now."""
    conn.execute(
        update(studies).where(studies.c.dirty.is_(True), studies.c.last_instance_at > now).values(last_instance_at=now)
    )


def _lock_key(study_uid: str) -> int:
    """64 bits, signed."""
    return int(digest(study_uid)[:16], 16) - (1 << 63)


def _study(row: RowMapping) -> StudyRow:
    return StudyRow(**row)
