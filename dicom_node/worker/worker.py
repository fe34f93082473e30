"""The worker: claims studies, has them read in batches, and commits result, documents and deliveries of each by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from dicom_node import measures
from dicom_node.errors import StorageBusy, StorageError, describe
from dicom_node.pixels.reader import PixelReader, shared_reader
from dicom_node.routing import Routes
from dicom_node.storage.bell import READ_TOPIC
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import Job, Priority, heartbeat, release
from dicom_node.storage.reading_claims import Wish, claim_readings
from dicom_node.storage.suspects import free_suspects
from dicom_node.worker.ending import Endings
from dicom_node.worker.flight import Flight, StagedReader
from dicom_node.worker.options import WorkerOptions as WorkerOptions
from dicom_node.worker.pipeline import Pipeline
from dicom_node.worker.saving import Saver
from dicom_node.worker.stages import Parts, Stages
from dicom_node.worker.watchdog import Step, Watchdog

READ_QUEUE: Final = "read"
_log = structlog.get_logger()


class Worker:
    """``reader``: the loaded engine for a reading's name. ``pixels``: None for defaults.

    ``watched``: a step that hangs ends the process.
    """

    def __init__(
        self,
        db: Database,
        files: FileStore,
        reader: Callable[[str], StagedReader],
        options: WorkerOptions,
        owner: str,
        routes: Callable[[], Routes],
        pixels: PixelReader | None = None,
        *,
        watched: bool = False,
    ) -> None:
        self._db, self._options, self._owner = db, options, owner
        saver = Saver(db, files, options, owner, routes)
        self._watchdog = Watchdog(self._last_words) if watched else None
        parts = Parts(db, files, pixels or shared_reader(), reader, options, saver, Endings(db, options, owner), self._watchdog)
        self._stages = Stages(parts)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. A database that is busy for a moment is waited for.

        Raises DeviceLost where the models' device answers nothing any more: only a new process can use it again.
        """
        bell = self._db.bell(READ_TOPIC)
        with self._line(bell.ring) as line:
            while not stop.is_set() and line.fatal is None:
                seen = bell.rung
                if not self._claimed_into(line):
                    bell.wait(seen, self._options.poll_seconds, stop)

    def step(self) -> bool:
        """Claim one batch and work on it to its end; False when there is none. Raises StorageError, DeviceLost."""
        with self._line() as line:
            if found := self._claim(Wish(self._options.batch)):
                line.submit(map(Flight, found))
                line.drain()
        return bool(found)

    def close(self) -> None:
        if self._watchdog:
            self._watchdog.close()

    @contextmanager
    def _line(self, ended: Callable[[], None] = lambda: None) -> Iterator[Pipeline]:
        """A pipeline whose studies stay ours while it runs; what it did not begin is given back when it ends."""
        line = Pipeline(self._stages, ended)
        done = threading.Event()
        beat = threading.Thread(target=self._beat, args=(line, done), name="heartbeat", daemon=True)
        beat.start()
        try:
            with line:
                yield line
        finally:
            done.set()
            beat.join()
            self._give_back(line)
        if line.fatal is not None:
            raise line.fatal

    def _claimed_into(self, line: Pipeline) -> bool:
        try:
            found = self._claim_ahead(line)
        except StorageBusy as error:
            _log.warning("the database is busy; waiting", error=str(error))
            return False
        line.submit(map(Flight, found))
        return bool(found)

    def _claim_ahead(self, line: Pipeline) -> list[Job]:
        """One batch is prepared while the models have another, within the memory for pictures; STAT finds room beyond that.

        A study whose last worker stopped in the middle has this one for itself.
        """
        flights, batch = line.flights, self._options.batch
        if any(flight.job.unfinished > 1 for flight in flights):
            return []
        full = sum(flight.frame_bytes for flight in flights) > self._options.bounds.memory_mb * 2**20
        room = 0 if full or len(flights) >= 3 * batch else batch - line.ahead
        if room > 0:
            return self._claim(Wish(room, alone=not flights))
        urgent = sum(flight.job.priority <= Priority.STAT for flight in flights)
        return self._claim(Wish(batch - urgent, only_stat=True, alone=False)) if urgent < batch else []

    def _claim(self, wish: Wish) -> list[Job]:
        options, now = self._options, self._db.now()
        found = claim_readings(self._db, READ_QUEUE, self._owner, wish, options.lease_seconds, options.ageing_seconds, now)
        for job in found:
            measures.observe(measures.STEP, now - job.created_at, step="wait")
        return found

    def _beat(self, line: Pipeline, done: threading.Event) -> None:
        """Renew the leases."""
        lease = self._options.lease_seconds
        while not done.wait(lease / 3):
            held = [flight.job.id for flight in line.flights]
            try:
                if held:
                    heartbeat(self._db, self._owner, held, lease, self._db.now())
            except StorageError as error:
                _log.warning("leases could not be renewed", error=str(error))

    def _give_back(self, line: Pipeline) -> None:
        left = [flight.job for flight in line.flights]
        try:
            if line.fatal is not None:
                at_work = [flight.job for flight in line.at_work]
                text = f"A worker could not go on and is replaced: {describe(line.fatal)}"
                free_suspects(self._db, self._owner, at_work, text, self._db.now())
            elif left:
                release(self._db, left, self._owner)
        except StorageError as error:
            _log.warning("studies wait for their leases to run out", count=len(left), error=str(error))

    def _last_words(self, step: Step) -> None:
        text = f"A worker's {step.what} of {len(step.jobs)} studies took longer than {step.limit_s:g} s: it is replaced"
        free_suspects(self._db, self._owner, step.jobs, text, self._db.now())
