"""What is saved of a reading, in one step or in two: its findings first where they cannot wait, then the whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from dicom_node.drift import observe
from dicom_node.flow import Outcome
from dicom_node.reading_json import to_json
from dicom_node.routing import Routes
from dicom_node.storage.database import Database
from dicom_node.storage.drift import Connection
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import Job, JobKind, NewJob, complete, enqueue, hold
from dicom_node.storage.outbox import delivery_key
from dicom_node.storage.results import NewDocument, NewResult, save_document, save_result
from dicom_node.worker.options import WorkerOptions
from inference.reading import Decision, Reading, Urgency, UseMode
from reporting.context import Document


class Stored(NamedTuple):
    document: Document
    path: str
    size: int
    sha256: str


class Saver:
    """Files first, then one transaction: rows, deliveries and the job's state stand or fall together."""

    def __init__(
        self, db: Database, files: FileStore, options: WorkerOptions, owner: str, routes: Callable[[], Routes]
    ) -> None:
        self._db, self._files, self._options, self._owner, self._routes = db, files, options, owner, routes

    def goes_first(self, reading: Reading) -> bool:
        """Whether the findings are to go out before the draft is written."""
        wish = self._options.findings_first
        if not reading.draft.pending or self._options.mode is not UseMode.ASSIST or wish == "never":
            return False
        stat = any(one.decision is Decision.POSITIVE and one.urgency is Urgency.STAT for one in reading.findings)
        return wish == "always" or stat

    def save_first(self, job: Job, outcome: Outcome) -> None:
        """Keep and send findings; the job goes on. Raises LeaseLost, StorageError."""
        stored = [self._store(document) for document in outcome.documents]
        now = self._db.now()
        with self._db.write() as connection:
            hold(connection, job, self._owner)
            self._put(connection, job, outcome, stored, now)

    def save(self, job: Job, outcome: Outcome) -> None:
        """Keep and send a whole reading; the job ends. Raises LeaseLost, StorageError."""
        stored = [self._store(document) for document in outcome.documents]
        now = self._db.now()
        with self._db.write() as connection:
            self._put(connection, job, outcome, stored, now)
            observe(connection, **_key(job), reading=outcome.reading, scanner=outcome.scanner, now=now)
            complete(connection, job, self._owner, now)

    def give_up(self, job: Job, reading: Reading | None) -> None:
        """End a job whose study is read by a later one. ``reading``: what was saved of it before, as it now stands."""
        now = self._db.now()
        with self._db.write() as connection:
            if reading is not None:
                save_result(connection, NewResult(**_key(job), reading_json=to_json(reading)), now)
            complete(connection, job, self._owner, now)

    def _put(self, connection: Connection, job: Job, outcome: Outcome, stored: Collection[Stored], now: float) -> None:
        save_result(connection, NewResult(**_key(job), reading_json=to_json(outcome.reading)), now)
        for item in stored:
            save_document(connection, _row(item, job), now)
            if item.document.faults:
                record_event(connection, _held(item.document, job.study_uid), now)
        for delivery in self._deliveries(job, outcome):
            enqueue(connection, delivery, now)

    def _store(self, document: Document) -> Stored:
        file = self._files.write_document(document.uid, document.content, document.suffix)
        return Stored(document, file.path, file.size, file.sha256)

    def _deliveries(self, job: Job, outcome: Outcome) -> Iterator[NewJob]:
        """Each document once for each destination, by its route or by a rule on results; of a prior, none, whatever it says."""
        if self._options.mode is not UseMode.ASSIST or job.payload.get("prior"):
            return
        ways = [(name, job.payload.get("documents", ())) for name in job.payload["destinations"]]
        rules = self._routes().rules_for(outcome.reading, str(job.payload.get("route", "")))
        ways += [(name, rule.documents) for rule in rules for name in rule.destinations]
        sent = {
            (name, document.uid) for name, kinds in ways for document in outcome.documents if self._takes(name, kinds, document)
        }
        for name, uid in sorted(sent):
            yield NewJob(
                JobKind.DELIVER, name, delivery_key(uid, name), job.study_uid, {"document": uid}, priority=job.priority
            )

    def _takes(self, name: str, kinds: Collection[str], document: Document) -> bool:
        """``kinds``: those that the way there names; none: all that the destination takes."""
        wanted = self._options.wanted.get(name, ())
        return document.kind in wanted and (not kinds or document.kind in kinds) and not document.faults


def _key(job: Job) -> dict[str, Any]:
    return {"study_uid": job.study_uid, "revision": int(job.payload["revision"]), "reading_name": str(job.payload["reading"])}


def _row(item: Stored, job: Job) -> NewDocument:
    document = item.document
    return NewDocument(
        uid=document.uid,
        kind=document.kind,
        path=item.path,
        **_key(job),
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
