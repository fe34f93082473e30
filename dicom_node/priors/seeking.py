"""Fetching priors before a study is read, within the time that its route allows.

The reading is queued from the beginning, for the end of that time: whatever happens here, it is done then. When the priors have
come and are read themselves, it is done at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import structlog
from pydicom import Dataset, dcmread

from dicom_node.archives import Archive
from dicom_node.errors import NodeError, RemoteError, StorageError, describe
from dicom_node.pixels.quiet import quiet
from dicom_node.priors.choosing import Candidate, Subject, choose
from dicom_node.routing import PriorsWish
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import instances_of
from dicom_node.storage.jobs import Job
from dicom_node.storage.priors import (
    Prior,
    PriorState,
    change,
    have_results,
    note_priors,
    take,
    wait_no_longer,
    waiting_for_priors,
)
from dicom_node.storage.pulls import Pulled, PullReason, count_held, note_pulled

_AT_ONCE: Final = 4  # studies whose priors are fetched at the same time
_POLL_S: Final = 0.25
_HEADER: Final = ["PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate", "StudyTime", "SpecificCharacterSet"]
_log = structlog.get_logger()


class _Ending(threading.Event):
    """Set when the time of one study is over, or that of the node."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._stop = stop

    def is_set(self) -> bool:
        return super().is_set() or self._stop.is_set()


@dataclass(frozen=True, slots=True)
class Seeker:
    """Looks for readings that wait for priors, and fetches them from ``archive``."""

    db: Database
    files: FileStore
    archive: Archive
    clock: Callable[[], float] = time.time

    def run(self, stop: threading.Event, poll_s: float = _POLL_S) -> None:
        """Until ``stop`` is set; several studies at a time, so that a slow archive holds up none for long."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="priors") as threads:
            while not stop.wait(poll_s):
                try:
                    for job in self._due():
                        threads.submit(self._serve, job, stop)
                except StorageError as error:
                    _log.warning("the search for priors waits for the database", error=str(error))

    def _due(self) -> list[Job]:
        now = self.clock()
        with self.db.read() as conn:
            found = waiting_for_priors(conn, now)
        if not found:
            return []
        with self.db.write() as conn:
            return [job for job in found if take(conn, job.study_uid, now)]

    def _serve(self, job: Job, stop: threading.Event) -> None:
        try:
            if not stop.is_set():
                self.seek(job, stop)
        except (NodeError, ValueError) as error:
            _log.warning("the priors of a study were not fetched", study_uid=job.study_uid, error=describe(error))
        except Exception as error:  # noqa: BLE001  an odd answer must not end the search for other studies
            _log.error("the priors of a study were not fetched", study_uid=job.study_uid, error=describe(error))
        try:
            with self.db.write() as conn:
                wait_no_longer(conn, job, self.clock())
        except StorageError as error:
            _log.warning("a study is read at the end of its wait for priors", study_uid=job.study_uid, error=str(error))

    def seek(self, job: Job, stop: threading.Event) -> None:
        """Find, fetch and wait until they are read. Raises RemoteError, StorageError, ValueError."""
        wish = PriorsWish.model_validate(job.payload["priors"])
        chosen = choose(self._subject(job.study_uid), wish, self.archive.find)
        if not chosen:
            return
        with self.db.write() as conn:
            note_priors(conn, job.study_uid, [one.prior for one in chosen], self.clock())
        out_of_time = _Ending(stop)
        timer = threading.Timer(max(job.not_before - self.clock(), 0), out_of_time.set)
        timer.daemon = True
        timer.start()
        try:
            here = [one.prior for one in chosen if not out_of_time.is_set() and self._fetch(job, one, out_of_time)]
            self._await_results(job, here, out_of_time)
        finally:
            timer.cancel()

    def _fetch(self, job: Job, one: Candidate, out_of_time: threading.Event) -> bool:
        uid = one.prior.study_uid
        with self.db.write() as conn:
            held = count_held(conn, uid)
            if not held:  # a study that came by itself keeps its own priority and destinations
                note_pulled(conn, uid, Pulled(PullReason.PRIOR, job.priority), self.clock())
        failed = 0
        if not held or held < one.expected:
            try:
                failed = self.archive.retrieve(uid, out_of_time).failed
            except RemoteError as error:
                _log.warning("a prior was not fetched", study_uid=uid, error=str(error))
        with self.db.write() as conn:
            held = count_held(conn, uid)
            whole = held >= one.expected if one.expected else held > 0 and not failed
            change(conn, job.study_uid, uid, PriorState.HERE if whole else PriorState.FAILED)
        return whole

    def _await_results(self, job: Job, here: list[Prior], out_of_time: threading.Event) -> None:
        """Until every prior that is here was read; the others cannot be compared with."""
        waiting = {one.study_uid for one in here}
        while waiting and not out_of_time.is_set():
            with self.db.read() as conn:
                read = have_results(conn, sorted(waiting), str(job.payload["reading"]))
            if read:
                with self.db.write() as conn:
                    for uid in read:
                        change(conn, job.study_uid, uid, PriorState.READ)
                waiting -= read
            else:
                out_of_time.wait(_POLL_S)

    def _subject(self, study_uid: str) -> Subject:
        """Raises ValueError where the study has no readable image."""
        with self.db.read() as conn:
            rows = instances_of(conn, study_uid)
        if not rows:
            raise ValueError("the study has no image")
        with quiet():
            header = dcmread(self.files.path(rows[0].path), stop_before_pixels=True, specific_tags=_HEADER, force=True)
        return Subject(
            study_uid,
            _text(header, "PatientID"),
            _text(header, "IssuerOfPatientID"),
            _day(_text(header, "StudyDate"), self.clock()),
            frozenset(row.modality for row in rows if row.modality),
            frozenset(row.body_part.upper() for row in rows if row.body_part),
            _text(header, "PatientBirthDate"),
            _text(header, "StudyTime") if _text(header, "StudyDate") else "",
        )


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def _day(text: str, now: float) -> date:
    """Of the study; today where it tells none."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return datetime.fromtimestamp(now).date()
