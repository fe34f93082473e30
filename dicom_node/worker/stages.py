"""The stages of a reading, each for itself: prepare, triage, draft, save. Whatever a study does to one, it ends only itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from dicom_node import measures, tracing
from dicom_node.errors import StudySlow, describe
from dicom_node.flow import Outcome, Prepared, document, prepare, prepare_refusal
from dicom_node.pixels.reader import PixelReader
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import UNFINISHED_LIMIT, Job
from dicom_node.worker.batches import BatchSize, in_batches
from dicom_node.worker.ending import Endings, failures
from dicom_node.worker.flight import Flight, Next, StagedReader
from dicom_node.worker.options import WorkerOptions
from dicom_node.worker.requests import Standing, request_of, saved_findings, standing
from dicom_node.worker.saving import Saver
from dicom_node.worker.watchdog import Watchdog
from inference.reading import DraftReport, Reading
from inference.stages import Study, Triaged
from reporting.context import DocumentKind
from reporting.documents import FINDINGS_KINDS, FIRST_KINDS

_SLOW_TRIES: Final = 2
_SLACK: Final = 2.0  # bounds are looked at between files; one that never comes is the watchdog's
REPLACED: Final = "newer images of the study came before its draft was written"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What the stages work with. ``readers``: the loaded engine for a reading's name. ``watchdog`` None: nothing is timed."""

    db: Database
    files: FileStore
    pixels: PixelReader
    readers: Callable[[str], StagedReader]
    options: WorkerOptions
    saver: Saver
    endings: Endings
    watchdog: Watchdog | None = None


class Stages:
    """``triage`` and ``draft`` run in the thread that owns the models, the others in any."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        options = parts.options
        self.triage_size = BatchSize(options.batch, options.batch_seconds)
        self.draft_size = BatchSize(options.batch, options.batch_seconds)

    def prepare(self, flight: Flight) -> Next:
        """Decide what is to become of the study and, where it is to be read, show its frames."""
        try:
            with self._watched("preparing", [flight], _SLACK * self._parts.options.bounds.seconds):
                return self._prepared(flight)
        except Exception as error:  # noqa: BLE001  whatever a study does to the code, the others must be read
            return self._failed(flight, error)

    def triage(self, flights: Sequence[Flight]) -> list[tuple[Flight, Next]]:
        """Studies of one reading. Raises DeviceLost."""
        reader = _reader(flights[0])

        def step(batch: list[Flight]) -> list[Triaged]:
            prepared = [_prepared(flight) for flight in batch]
            with self._passing("triage", batch):
                return reader.triage([Study(one.frames, one.skipped) for one in prepared])

        found = in_batches(flights, step, self.triage_size)
        return [(flight, self._triaged(flight, result)) for flight, result in found]

    def draft(self, flights: Sequence[Flight]) -> list[tuple[Flight, Next]]:
        """Studies of one reading, after triage. Raises DeviceLost."""
        reader = _reader(flights[0])

        def step(batch: list[Flight]) -> list[Reading]:
            with self._passing("drafting", batch):
                return reader.finish([_findings(flight) for flight in batch])

        waiting = [flight for flight in flights if not flight.ended]
        found = in_batches(waiting, step, self.draft_size)
        return [(flight, self._whole(flight, result)) for flight, result in found]

    def first(self, flight: Flight) -> Next:
        """Save and send the findings."""

        def save() -> None:
            outcome = self._documented(flight, _findings(flight).reading, first=True)
            self._parts.saver.save_first(flight.job, outcome)
            _log.info("findings sent before the draft", **_told(flight, outcome.reading))

        return self._saved(flight, save, Next.DRAFT)

    def save(self, flight: Flight) -> Next:
        """Save and send what is left; the study is done."""

        def save() -> None:
            if flight.error is not None:
                raise flight.error
            assert flight.reading is not None, "a study is read before it is saved"
            outcome = self._documented(flight, flight.reading, first=False)
            self._parts.saver.save(flight.job, outcome)
            took = time.monotonic() - flight.began
            measures.observe(measures.STEP, took, step="read")
            read = "read" if outcome.reading.assessed else "not_assessable"
            measures.count(measures.STUDIES_READ, outcome=read)
            _trace("read", flight, took)
            _log.info("read", reason=outcome.reading.reason, **_told(flight, outcome.reading))

        return self._saved(flight, save, Next.END)

    def _prepared(self, flight: Flight) -> Next:
        parts, job = self._parts, flight.job
        saved = saved_findings(parts.db, job)
        stands = standing(parts.db, job, parts.db.now())
        if stands is Standing.REPLACED:
            parts.saver.give_up(job, _without_draft(saved, REPLACED) if saved else None)
            _log.info("left to a later revision of the study", job=job.id, study_uid=job.study_uid)
            return Next.END
        if stands is Standing.EARLIER_FIRST:
            parts.endings.not_yet(job)
            return Next.END
        flight.reader = parts.readers(flight.name)
        flight.sent = saved is not None
        if reason := self._given_up(job):
            return self._refused(flight, reason, saved)
        return self._shown(flight, saved)

    def _given_up(self, job: Job) -> str:
        if job.unfinished >= UNFINISHED_LIMIT:
            return f"the reading stopped the node {job.unfinished - 1} times and was given up"
        failed = failures(job)
        return f"the reading failed {failed} times and was given up" if failed >= self._parts.options.max_attempts else ""

    def _shown(self, flight: Flight, saved: Reading | None) -> Next:
        parts, reader = self._parts, _reader(flight)
        request = request_of(parts.db, parts.files, parts.options, flight.job)
        began = time.perf_counter()
        flight.prepared = prepared = prepare(request, parts.pixels, parts.options.bounds)
        took = time.perf_counter() - began
        measures.observe(measures.STEP, took, step="decode")
        _trace("decode", flight, took)
        if prepared.refusal:
            if prepared.slow and failures(flight.job) + 1 < _SLOW_TRIES:
                raise StudySlow(prepared.refusal)
            flight.reading = self._told_why(flight, saved, prepared.refusal)
            return Next.SAVE
        if saved is None:
            return Next.TRIAGE
        flight.triaged = reader.resume(saved, prepared.frames)
        return self._after_triage(flight, flight.triaged)

    def _refused(self, flight: Flight, reason: str, saved: Reading | None) -> Next:
        """Say that the study was given up; findings that were sent stand, and only the draft is given up."""
        parts = self._parts
        request = request_of(parts.db, parts.files, parts.options, flight.job)
        flight.prepared = prepare_refusal(request, parts.pixels, parts.options.bounds)
        flight.reading = self._told_why(flight, saved, reason)
        return Next.SAVE

    def _told_why(self, flight: Flight, saved: Reading | None, reason: str) -> Reading:
        return _without_draft(saved, reason) if saved else _reader(flight).refuse(reason, _prepared(flight).skipped)

    def _triaged(self, flight: Flight, result: Triaged | Exception) -> Next:
        if isinstance(result, Exception):
            return self._failed(flight, result)
        flight.triaged = result
        flight.sent = self._parts.saver.goes_first(result.reading)
        return Next.FIRST if flight.sent else self._after_triage(flight, result)

    def _after_triage(self, flight: Flight, triaged: Triaged) -> Next:
        if triaged.pending:
            return Next.DRAFT
        flight.reading = triaged.reading
        return Next.SAVE

    def _whole(self, flight: Flight, result: Reading | Exception) -> Next:
        """A draft that fails takes no findings with it: they go first where they should, and stand alone after the last try."""
        if not isinstance(result, Exception):
            flight.reading = result
            return Next.SAVE
        failed = failures(flight.job) + 1
        if failed < self._parts.options.max_attempts:
            flight.error = result
            return Next.SAVE
        _log.error("the draft is given up", job=flight.job.id, study_uid=flight.job.study_uid, error=describe(result))
        flight.reading = _without_draft(_findings(flight).reading, f"the draft failed {failed} times and was given up")
        return Next.SAVE

    def _documented(self, flight: Flight, reading: Reading, *, first: bool) -> Outcome:
        """``first``: the findings, before the draft is written; else what has not been sent then."""
        only = FIRST_KINDS if first else frozenset(DocumentKind) - (FINDINGS_KINDS if flight.sent else frozenset())
        with measures.timed(measures.STEP, step="documents"):
            return document(_prepared(flight), reading, self._parts.options.documents, only)

    def _saved(self, flight: Flight, save: Callable[[], None], then: Next) -> Next:
        if flight.ended:
            return Next.END
        try:
            save()
        except Exception as error:  # noqa: BLE001  whatever a study does to the code, the others must be saved
            return self._failed(flight, error)
        return then

    def _failed(self, flight: Flight, error: Exception) -> Next:
        if not flight.ended:
            flight.ended = True
            self._parts.endings.failed(flight.job, error)
        return Next.END

    @contextmanager
    def _passing(self, model: str, flights: Sequence[Flight]) -> Iterator[None]:
        began = time.perf_counter()
        with self._watched(model, flights, self._parts.options.step_seconds, backstop=True):
            yield
        took = time.perf_counter() - began
        measures.observe(measures.MODEL_PASS, took, model=model)
        measures.observe(measures.BATCH_SIZE, len(flights), model=model)
        for flight in flights:
            step = "triage" if model == "triage" else "draft"
            measures.observe(measures.STEP, took, step=step)
            _trace(step, flight, took)

    def _watched(
        self, what: str, flights: Sequence[Flight], limit_s: float, *, backstop: bool = False
    ) -> AbstractContextManager[None]:
        dog = self._parts.watchdog
        return dog.watching(what, [one.job for one in flights], limit_s, backstop=backstop) if dog else nullcontext()


def _reader(flight: Flight) -> StagedReader:
    assert flight.reader is not None, "a study is prepared before it is read"
    return flight.reader


def _prepared(flight: Flight) -> Prepared:
    assert flight.prepared is not None, "a study is prepared before it is read"
    return flight.prepared


def _findings(flight: Flight) -> Triaged:
    assert flight.triaged is not None, "a study's findings come before its draft"
    return flight.triaged


def _without_draft(reading: Reading, reason: str) -> Reading:
    return replace(reading, draft=DraftReport((), reason))


def _trace(name: str, flight: Flight, took_s: float) -> None:
    """A step that has just ended."""
    now = time.time()
    tracing.step(name, flight.job.study_uid, int(flight.job.payload["revision"]), now - took_s, now)


def _told(flight: Flight, reading: Reading) -> dict[str, Any]:
    job = flight.job
    told: dict[str, Any] = {"job": job.id, "study_uid": job.study_uid, "revision": job.payload["revision"]}
    took = round(1000 * (time.monotonic() - flight.began))
    return {**told, "positive": [finding.key for finding in reading.positives], "duration_ms": took}
