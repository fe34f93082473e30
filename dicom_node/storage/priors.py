"""Earlier studies of a patient, fetched for comparison: which study asked for which, and how far it came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.storage.job_rows import Job, JobKind, JobState, job_of
from dicom_node.storage.tables import jobs, priors, results

_LOOKED_FOR = ""  # in place of a prior's UID: that the study's priors were looked for


class PriorState(StrEnum):
    """How far a prior came."""

    WANTED = "wanted"
    HERE = "here"  # all of it is stored
    READ = "read"  # and there is a result
    FAILED = "failed"  # it could not be fetched in time


@dataclass(frozen=True, slots=True)
class Prior:
    """``study_date``: YYYYMMDD, empty where the archive does not tell."""

    study_uid: str
    study_date: str
    state: PriorState = PriorState.WANTED


def waiting_for_priors(conn: Connection, now: float) -> tuple[Job, ...]:
    """Readings that wait for priors which nobody has looked for yet."""
    looked = select(priors.c.study_uid).where(priors.c.prior_uid == _LOOKED_FOR, priors.c.study_uid == jobs.c.study_uid)
    waiting = (jobs.c.kind == JobKind.READ.value, jobs.c.state == JobState.QUEUED.value, jobs.c.not_before > now)
    query = select(jobs).where(*waiting, jobs.c.attempts == 0, jobs.c.payload.contains('"priors"'), ~looked.exists())
    found = conn.execute(query.order_by(jobs.c.priority, jobs.c.created_at)).mappings()
    return tuple(job_of(row) for row in found)


def take(conn: Connection, study_uid: str, now: float) -> bool:
    """Whether it is for this caller to look for the priors of a study: one process does, once."""
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    values = {"study_uid": study_uid, "prior_uid": _LOOKED_FOR, "study_date": "", "state": "looked for", "at": now}
    once = make(priors).values(**values).on_conflict_do_nothing().returning(priors.c.study_uid)
    return conn.execute(once).first() is not None


def note_priors(conn: Connection, study_uid: str, found: Sequence[Prior], now: float) -> None:
    """What was chosen; as it was before where it is known."""
    for one in found:
        key = (priors.c.study_uid == study_uid, priors.c.prior_uid == one.study_uid)
        conn.execute(delete(priors).where(*key))
        values = {"study_uid": study_uid, "prior_uid": one.study_uid, "study_date": one.study_date}
        conn.execute(insert(priors).values(**values, state=one.state.value, at=now))


def change(conn: Connection, study_uid: str, prior_uid: str, state: PriorState) -> None:
    key = (priors.c.study_uid == study_uid, priors.c.prior_uid == prior_uid)
    conn.execute(update(priors).where(*key).values(state=state.value))


def priors_of(conn: Connection, study_uid: str) -> tuple[Prior, ...]:
    """The newest first."""
    wanted = (priors.c.study_uid == study_uid, priors.c.prior_uid != _LOOKED_FOR)
    rows = conn.execute(select(priors).where(*wanted).order_by(priors.c.study_date.desc(), priors.c.prior_uid))
    return tuple(Prior(row.prior_uid, row.study_date, PriorState(row.state)) for row in rows)


def have_results(conn: Connection, study_uids: Sequence[str], reading_name: str) -> frozenset[str]:
    """Those of some studies that were read."""
    wanted = (results.c.study_uid.in_(study_uids), results.c.reading_name == reading_name)
    return frozenset(conn.execute(select(results.c.study_uid).where(*wanted)).scalars())


def wait_no_longer(conn: Connection, job: Job, now: float) -> None:
    """A reading is due at once, unless it is being done."""
    mine = (jobs.c.id == job.id, jobs.c.state == JobState.QUEUED.value, jobs.c.not_before > now)
    conn.execute(update(jobs).where(*mine).values(not_before=now))
