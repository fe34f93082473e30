"""Group commit: one transaction serves all objects that wait at that moment.

Every association brings its own file to the disk, all at the same time. Of those that then wait for the database, one does
the work for all: it records the instances, gives the files their places, fsyncs each folder once, and commits. A row that is
seen names a file that is there; what was answered with success is both, on the disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import structlog

from dicom_node.errors import StorageBusy, StorageError, describe
from dicom_node.ingest.company import Company
from dicom_node.storage.arriving import ArrivingFile
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import (
    ConflictRule,
    InstanceRow,
    NewInstance,
    Outcome,
    Recorded,
    find_instance,
    record_instances,
)
from dicom_node.storage.paths import sync_folder, translated

_MOST_AT_ONCE = 512  # instances of one transaction
_QUICK_S = 1.0  # a transaction that failed later than this has waited for a lock: trying each instance alone would add up
_COMPARED_EARLY = 16 << 20  # bytes; larger objects are compared before the transaction, which holds up other writers
_LINGER_S = 0.2  # how long deferred instances gather
_DEFERRED_MOST = 2048
_NOT_KEPT = (Outcome.DUPLICATE, Outcome.REFUSED)

_log = structlog.get_logger()


Turn = Callable[[], AbstractContextManager[object]]


class Waiting:
    """What waits for a transaction. No two of one ``key`` may be in the same."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.done = False
        self.error: Exception | None = None
        self._turn = threading.Lock()
        self._turn.acquire()

    def wake(self) -> None:
        self._turn.release()

    def wait(self) -> None:
        self._turn.acquire()

    def fail(self, error: Exception) -> None:
        self.error, self.done = error, True


class Ending(Waiting):
    """The end of an association that carried instances."""

    def __init__(self, association: str, released: bool) -> None:
        super().__init__(f"end of {association}")
        self.association = association
        self.released = released


class Parcel(Waiting):
    """An object whose file is complete, waiting for its row. Implements ``storage.instances.Incoming``."""

    def __init__(self, new: NewInstance, file: ArrivingFile, files: FileStore, association: str) -> None:
        super().__init__(new.sop_uid)
        self.new = new
        self.file = file
        self.association = association
        self._files = files
        self._compared: dict[int, bool] = {}
        self.recorded: Recorded | None = None

    def same_as(self, held: InstanceRow) -> bool:
        if held.id not in self._compared:
            self._compared[held.id] = self._same_as(held)
        return self._compared[held.id]

    def _same_as(self, held: InstanceRow) -> bool:
        if held.size != self.new.size:
            return False
        return self.file.same_data_set(str(self._files.path(held.path)), held.size)

    def place(self, copy: int) -> str:
        return self._files.place_for(self.new.study_uid, self.new.sop_uid, copy, self.file)


class Committer:
    """Records instances, many at a time. With ``deferred`` that happens later, in a thread of its own.

    ``conflicts``: what is done with an instance that cannot simply be added. ``turn``: held during each transaction.
    """

    def __init__(
        self,
        db: Database,
        files: FileStore,
        deferred: bool = False,
        clock: Callable[[], float] | None = None,
        conflicts: ConflictRule = ConflictRule.KEEP_BOTH,
        turn: Turn = nullcontext,
    ) -> None:
        self._db = db
        self._files = files
        self._clock = clock or db.now
        self._conflicts = conflicts
        self._turn = turn
        self._company = Company()
        self._lock = threading.Lock()
        self._waiting: list[Waiting] = []
        self._leading = False
        self._room = threading.Semaphore(_DEFERRED_MOST)
        self._closing = threading.Event()
        self._recorder = threading.Thread(target=self._record_deferred, name="recorder", daemon=True) if deferred else None
        if self._recorder is not None:
            self._recorder.start()

    def commit(self, new: NewInstance, file: ArrivingFile, association: str = "") -> Recorded | None:
        """Returns when the instance is recorded and its file has its place; None where that comes later.

        ``association``: whose end will be told by ``end``. Raises StorageError, StorageBusy.
        """
        parcel = Parcel(new, file, self._files, association)
        if new.size > _COMPARED_EARLY:
            self._compare_early(parcel)
        self._record(parcel)
        return parcel.recorded

    def end(self, association: str, released: bool) -> None:
        """Returns when the end of an association is recorded. Raises StorageError, StorageBusy."""
        self._record(Ending(association, released))

    def _record(self, one: Waiting) -> None:
        if self._recorder is not None:
            self._room.acquire()
            with self._lock:
                self._waiting.append(one)
            return
        with self._lock:
            self._waiting.append(one)
            lead, self._leading = not self._leading, True
        if not lead:
            one.wait()
        if not one.done:
            self._lead(one)
        if one.error is not None:
            raise one.error

    def close(self) -> None:
        """Record what is still deferred."""
        self._closing.set()
        if self._recorder is not None:
            self._recorder.join()

    def _lead(self, own: Waiting) -> None:
        """Serve all that wait until ``own`` has been served, then let the next one lead."""
        while not own.done:
            batch = self._take()
            self._serve(batch)
            for one in batch:
                if one is not own:
                    one.wake()
        with self._lock:
            self._leading = bool(self._waiting)
            if self._waiting:
                self._waiting[0].wake()

    def _take(self) -> list[Waiting]:
        """Those that wait, no two of one key: the second must find the first recorded."""
        with self._lock:
            batch: dict[str, Waiting] = {}
            for one in self._waiting:
                if len(batch) < _MOST_AT_ONCE:
                    batch.setdefault(one.key, one)
            taken = set(map(id, batch.values()))
            self._waiting = [one for one in self._waiting if id(one) not in taken]
        return list(batch.values())

    def _serve(self, batch: list[Waiting]) -> None:
        """What cannot be recorded must not take the others with it."""
        if not batch:
            return
        started = time.monotonic()
        try:
            self._transact(batch)
        except Exception as error:  # noqa: BLE001 - it goes to the threads that wait
            if len(batch) > 1 and not (isinstance(error, StorageBusy) and time.monotonic() - started > _QUICK_S):
                for one in batch:
                    self._serve([one])
                return
            for one in batch:
                one.fail(error)

    def _transact(self, batch: list[Waiting]) -> None:
        parcels = [one for one in batch if isinstance(one, Parcel)]
        endings = [(one.association, one.released) for one in batch if isinstance(one, Ending)]
        with self._turn(), self._db.write() as conn:
            now = self._clock()
            recorded = record_instances(conn, parcels, now, self._conflicts) if parcels else ()
            told = self._company.record(conn, list(zip(parcels, recorded, strict=True)), endings, now)
            self._place(parcels, recorded)
        self._company.remember(told)
        for parcel, outcome in zip(parcels, recorded, strict=True):
            if outcome.outcome in _NOT_KEPT:
                parcel.file.discard()
            parcel.recorded = outcome
        for one in batch:
            one.done = True

    def _place(self, parcels: list[Parcel], recorded: tuple[Recorded, ...]) -> None:
        folders = {
            parcel.file.move_to(one.path) for parcel, one in zip(parcels, recorded, strict=True) if one.outcome not in _NOT_KEPT
        }
        if self._recorder is None:
            for folder in folders:
                with translated(folder):
                    sync_folder(folder)

    def _compare_early(self, parcel: Parcel) -> None:
        with self._db.read() as conn:
            held = find_instance(conn, parcel.new.sop_uid)
        for row in held:
            parcel.same_as(row)

    def _record_deferred(self) -> None:
        while not (self._closing.wait(_LINGER_S) and not self._waiting):
            batch = self._take()
            self._serve(batch)
            for one in batch:
                self._room.release()
                if one.error is not None and isinstance(one, Parcel):
                    self._lost(one)

    def _lost(self, parcel: Parcel) -> None:
        text = f"An instance was acknowledged without being durable and is lost: {describe(parcel.error or Exception())}"
        new = parcel.new
        event = NewEvent(EventKind.FAILURE, text, Severity.ALERT, new.study_uid, new.sop_uid, new.calling_ae, new.host)
        parcel.file.discard()
        try:
            with self._db.write() as conn:
                record_event(conn, event, self._clock())
        except StorageError as error:
            _log.error("event not recorded", reason=text, error=str(error))
