"""From instances to studies: when is a study complete, and what is then done with it.

A complete study gets its next revision and its read job in one transaction. An instance that comes later makes the study
dirty again, and the next revision covers it. Nothing is kept in memory: after a crash the same studies are found again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from dicom_node import measures, tracing
from dicom_node.errors import StorageError, describe
from dicom_node.ingest.limiter import EventLimiter
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.instances import InstanceRow, instances_of
from dicom_node.storage.jobs import JobKind, NewJob, Priority, enqueue
from dicom_node.storage.senders import forget_senders
from dicom_node.storage.studies import StudyRow, dirty_studies, lock_study, open_revision, restart_quiet_time

READ_QUEUE = "read"

_APART_S = 2.0  # how far the clocks of two listeners on one database may be apart
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Complete:
    """Why a study is complete: ``because`` as ``measures.COMPLETED`` names it, and in words for an operator."""

    because: str
    words: str


class CompletionRule(Protocol):
    """Says when a study is complete."""

    def complete(self, study: StudyRow, now: float) -> Complete | None:
        """None: not yet. ``now``: seconds since 1970 UTC, never before ``study.last_instance_at``."""
        ...


@dataclass(frozen=True, slots=True)
class QuietTime:
    """A study is complete when nothing has come for ``seconds``."""

    seconds: float

    def complete(self, study: StudyRow, now: float) -> Complete | None:
        return quiet_for(self.seconds) if now - study.last_instance_at >= self.seconds else None


def quiet_for(seconds: float) -> Complete:
    return Complete("quiet", f"nothing came for {seconds:g} s")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with a study's revision. ``payload`` must fit JSON; it becomes part of the job's.

    ``not_before``: when it is read at the latest and, unless what it waits for comes sooner, at the earliest (seconds since
    1970 UTC); 0: at once.
    """

    reading: str
    priority: int = Priority.ROUTINE
    destinations: tuple[str, ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)
    not_before: float = 0.0


Planner = Callable[[StudyRow, tuple[InstanceRow, ...]], Plan | None]


class Assembler:
    """``plan`` is asked for each complete study; None means that no rule wants it read, which is recorded."""

    def __init__(self, db: Database, rule: CompletionRule, plan: Planner) -> None:
        self._db = db
        self._rule = rule
        self._plan = plan
        self._limiter = EventLimiter()
        self.waiting = False  # at the last look there were studies that are not complete

    def settle(self, now: float) -> int:
        """Open the next revision of every complete study and queue its reading; how many. Call it a few times a second.

        ``now``: seconds since 1970 UTC. Where the clock was set back, the quiet time begins anew.
        """
        with self._db.read() as conn:
            waiting = dirty_studies(conn)
        self.waiting = bool(waiting)
        if any(study.last_instance_at > now + _APART_S for study in waiting):
            self._clock_was_set_back(now)
            return 0
        return sum(self._try_to_settle(study, now) for study in waiting if self._rule.complete(study, now))

    def _clock_was_set_back(self, now: float) -> None:
        with self._db.write() as conn:
            restart_quiet_time(conn, now)

    def _try_to_settle(self, study: StudyRow, now: float) -> bool:
        try:
            return self._settle(study.study_uid, now)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - a study that cannot be planned must not hold up the others
            _log.error("a study cannot be planned", study_uid=study.study_uid, error=describe(error))
            self._record_failure(study, f"The study cannot be planned ({type(error).__name__}); it is tried again", now)
            return False

    def _record_failure(self, study: StudyRow, text: str, now: float) -> None:
        if self._limiter.admit(study.study_uid, time.monotonic()) is not None:
            with self._db.write() as conn:
                record_event(conn, NewEvent(EventKind.FAILURE, text, Severity.ALERT, study.study_uid), now)

    def _settle(self, study_uid: str, now: float) -> bool:
        with self._db.write() as conn:
            study = lock_study(conn, study_uid)
            why = self._rule.complete(study, now) if study is not None and study.dirty else None
            if study is None or why is None:
                return False  # an instance came, or another process was first
            plan = self._plan(study, instances_of(conn, study_uid))
            revision = open_revision(conn, study_uid)
            forget_senders(conn, study_uid)
            if plan is None:
                record_event(conn, _not_routed(study), now)
            else:
                enqueue(conn, read_job(study_uid, revision, plan, why.words), now)
        _tell(study, revision, why, now)
        return True


def _tell(study: StudyRow, revision: int, why: Complete, now: float) -> None:
    began = study.first_instance_at if revision == 1 else study.last_instance_at  # a late image may come after days
    measures.count(measures.COMPLETED, because=why.because)
    measures.observe(measures.STEP, now - began, step="receive")
    tracing.step(tracing.ROOT, study.study_uid, revision, began, now, because=why.because)


def read_job(study_uid: str, revision: int, plan: Plan, because: str = "") -> NewJob:
    """The job that reads one revision of a study; the same revision and reading is queued once.

    ``because``: why the study was complete, in words.
    """
    own = {"reading": plan.reading, "revision": revision, "destinations": list(plan.destinations), "because": because}
    key = f"read:{study_uid}:{revision}:{plan.reading}"
    return NewJob(JobKind.READ, READ_QUEUE, key, study_uid, {**plan.payload, **own}, plan.priority, plan.not_before)


def _not_routed(study: StudyRow) -> NewEvent:
    text = "No routing rule wants this study read"
    return NewEvent(EventKind.NOT_ROUTED, text, Severity.INFO, study.study_uid, calling_ae=study.calling_ae, host=study.host)
