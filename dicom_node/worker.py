"""The worker: claims read jobs, runs the flow, and commits result, documents and deliveries in one transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

import structlog

from dicom_node.errors import LeaseLost, StorageBusy, describe
from dicom_node.flow import Outcome, Reader, ReadRequest, read_study, refuse_study
from dicom_node.pixels.reader import PixelReader
from dicom_node.reading_json import to_json
from dicom_node.routing import Routes
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import instances_of
from dicom_node.storage.jobs import (
    UNFINISHED_LIMIT,
    Job,
    JobKind,
    NewJob,
    bury,
    claim,
    complete,
    enqueue,
    heartbeat,
    postpone,
    retry_later,
)
from dicom_node.storage.results import DocumentRow, NewDocument, NewResult, earlier_documents, save_document, save_result
from inference.reading import UseMode
from reporting.context import Document, DocumentKind, Predecessor
from reporting.options import DocumentOptions

READ_QUEUE: Final = "read"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """``wanted``: destination name to the document kinds it takes. ``device_uid``: of this installation."""

    mode: UseMode
    wanted: dict[str, tuple[str, ...]]
    documents: DocumentOptions
    device_uid: str
    station_name: str
    institution: str
    lease_seconds: float
    max_attempts: int
    retry_seconds: float
    poll_seconds: float


class Stored(NamedTuple):
    document: Document
    path: str
    size: int
    sha256: str


class Worker:
    """Reads studies one after the other. ``reader``: the loaded engine for a reading's name. ``pixels``: None for defaults."""

    def __init__(
        self,
        db: Database,
        files: FileStore,
        reader: Callable[[str], Reader],
        options: WorkerOptions,
        owner: str,
        routes: Callable[[], Routes],
        pixels: PixelReader | None = None,
    ) -> None:
        self._db = db
        self._files = files
        self._reader = reader
        self._options = options
        self._owner = owner
        self._routes = routes
        self._pixels = pixels

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. A database that is busy for a moment is waited for."""
        while not stop.is_set():
            try:
                worked = self.step()
            except StorageBusy as error:
                _log.warning("the database is busy; waiting", error=str(error))
                worked = False
            if not worked:
                stop.wait(self._options.poll_seconds)

    def step(self) -> bool:
        """Claim and finish one job; False when there is none."""
        jobs = claim(self._db, JobKind.READ, READ_QUEUE, self._owner, 1, self._options.lease_seconds, time.time())
        for job in jobs:
            with self._kept_alive(job):
                self._work(job)
        return bool(jobs)

    def _work(self, job: Job) -> None:
        started = time.monotonic()
        try:
            outcome = self._read(job)
            self._save(job, outcome)
        except LeaseLost:
            _log.warning("the lease passed to another worker; its result counts", job=job.id)
            return
        except Exception as error:  # noqa: BLE001  whatever a study does to the code, the next study must be read
            self._fail(job, error)
            return
        _log.info(
            "read",
            job=job.id,
            study_uid=job.study_uid,
            revision=job.payload["revision"],
            positive=[finding.key for finding in outcome.reading.positives],
            reason=outcome.reading.reason,
            duration_ms=round(1000 * (time.monotonic() - started)),
        )

    def _read(self, job: Job) -> Outcome:
        reader = self._reader(str(job.payload["reading"]))
        request = self._request(job)
        if job.attempts <= self._options.max_attempts and job.unfinished < UNFINISHED_LIMIT:
            return read_study(reader, request, self._options.documents, self._pixels)
        reason = f"the reading failed {job.attempts - 1} times and was given up"
        return refuse_study(reader, request, self._options.documents, reason)

    def _request(self, job: Job) -> ReadRequest:
        revision = int(job.payload["revision"])
        with self._db.read() as connection:
            rows = instances_of(connection, job.study_uid)
            earlier = earlier_documents(connection, job.study_uid, str(job.payload["reading"]), revision)
        return ReadRequest(
            study_instance_uid=job.study_uid,
            paths=tuple(self._files.path(row.path) for row in rows),
            revision=revision,
            read_at=datetime.fromtimestamp(int(job.created_at), UTC).astimezone(),
            device_uid=self._options.device_uid,
            station_name=self._options.station_name,
            institution=self._options.institution,
            predecessors=tuple(_predecessor(document) for document in earlier if _names_what_it_replaces(document)),
        )

    def _save(self, job: Job, outcome: Outcome) -> None:
        """Files first, then one transaction: rows, deliveries and the end of the job stand or fall together."""
        stored = [self._store(document) for document in outcome.documents]
        revision, reading_name, now = int(job.payload["revision"]), str(job.payload["reading"]), time.time()
        with self._db.write() as connection:
            save_result(connection, NewResult(job.study_uid, revision, reading_name, to_json(outcome.reading)), now)
            for item in stored:
                save_document(connection, _row(item, job.study_uid, revision, reading_name), now)
                if item.document.faults:
                    record_event(connection, _held(item.document, job.study_uid), now)
            for delivery in self._deliveries(job, outcome):
                enqueue(connection, delivery, now)
            complete(connection, job, self._owner, now)

    def _store(self, document: Document) -> Stored:
        file = self._files.write_document(document.uid, document.content, document.suffix)
        return Stored(document, file.path, file.size, file.sha256)

    def _deliveries(self, job: Job, outcome: Outcome) -> Iterator[NewJob]:
        """Each document once for each destination, by its route or by a rule on results."""
        if self._options.mode is not UseMode.ASSIST:
            return
        ways = [(name, job.payload.get("documents", ())) for name in job.payload["destinations"]]
        rules = self._routes().rules_for(outcome.reading, str(job.payload.get("route", "")))
        ways += [(name, rule.documents) for rule in rules for name in rule.destinations]
        sent = {
            (name, document.uid) for name, kinds in ways for document in outcome.documents if self._takes(name, kinds, document)
        }
        for name, uid in sorted(sent):
            yield NewJob(
                JobKind.DELIVER, name, f"deliver:{uid}:{name}", job.study_uid, {"document": uid}, priority=job.priority
            )

    def _takes(self, name: str, kinds: Collection[str], document: Document) -> bool:
        """``kinds``: those that the way there names; none: all that the destination takes."""
        wanted = self._options.wanted.get(name, ())
        return document.kind in wanted and (not kinds or document.kind in kinds) and not document.faults

    def _fail(self, job: Job, error: Exception) -> None:
        """Try again later; after the last attempt once more to say that it failed; then stop, visibly."""
        reason = describe(error)
        _log.error("reading failed", job=job.id, study_uid=job.study_uid, attempts=job.attempts, error=reason)
        now = time.time()
        try:
            if isinstance(error, StorageBusy):  # a full disk says nothing of the study: wait for room, however long
                postpone(self._db, job, self._owner, reason, now + self._options.retry_seconds, now)
            elif job.attempts > self._options.max_attempts:
                bury(self._db, job, self._owner, reason, now)
            else:
                wait = self._options.retry_seconds * 2 ** (job.attempts - 1)
                retry_later(self._db, job, self._owner, reason, now + wait, now)
        except LeaseLost:
            _log.warning("the lease passed to another worker; its result counts", job=job.id)

    @contextmanager
    def _kept_alive(self, job: Job) -> Iterator[None]:
        """Renew the lease while the body runs."""
        done = threading.Event()
        lease = self._options.lease_seconds

        def beat() -> None:
            while not done.wait(lease / 3):
                try:
                    heartbeat(self._db, self._owner, [job.id], lease, time.time())
                except StorageBusy:
                    continue

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _row(item: Stored, study_uid: str, revision: int, reading_name: str) -> NewDocument:
    document = item.document
    return NewDocument(
        uid=document.uid,
        kind=document.kind,
        path=item.path,
        study_uid=study_uid,
        revision=revision,
        reading_name=reading_name,
        media_type=document.media_type,
        size=item.size,
        sha256=item.sha256,
        sop_class_uid=document.sop_class_uid,
        series_uid=document.series_instance_uid,
        held="; ".join(str(fault) for fault in document.faults),
    )


def _held(document: Document, study_uid: str) -> NewEvent:
    """An operator must look: the document was made and checked, and may not leave."""
    text = f"{document.kind.value} breaks {len(document.faults)} of its rules and is held: {document.faults[0]}"
    return NewEvent(EventKind.HELD_DOCUMENT, text, Severity.ALERT, study_uid=study_uid, sop_uid=document.uid)


def _names_what_it_replaces(row: DocumentRow) -> bool:
    return bool(row.sop_class_uid) or row.kind == DocumentKind.FHIR_BUNDLE


def _predecessor(row: DocumentRow) -> Predecessor:
    return Predecessor(DocumentKind(row.kind), row.uid, row.sop_class_uid, row.series_uid)
