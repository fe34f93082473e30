"""Outbox → destinations. One thread per destination, so that one which is down or slow holds up no other."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from dicom_node.errors import LeaseLost, PeerRefused, RemoteError, StorageBusy, StorageError
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import Job, JobKind, bury, claim, complete, retry_later
from dicom_node.storage.results import DocumentRow, load_document

Send = Callable[[DocumentRow, bytes], str]  # returns what an operator should know ("" or a warning); raises RemoteError
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits double from ``first_s`` to ``longest_s`` until ``give_up_s`` have passed since the first failure."""

    first_s: float = 5
    longest_s: float = 1800
    give_up_s: float = 72 * 3600
    poll_s: float = 0.25
    lease_s: float = 120

    def wait_s(self, attempts: int) -> float:
        """Seconds before the next attempt, with up to 10 % of jitter so that peers are not stormed in step."""
        return float(min(self.first_s * 2 ** min(attempts - 1, 32), self.longest_s) * random.uniform(0.9, 1.1))


class Deliverer:
    """Runs a thread for each destination until stopped."""

    def __init__(
        self, db: Database, files: FileStore, destinations: Mapping[str, Send], policy: RetryPolicy, owner: str
    ) -> None:
        self._db = db
        self._files = files
        self._destinations = dict(destinations)
        self._policy = policy
        self._owner = owner

    def run(self, stop: threading.Event) -> None:
        threads = [
            threading.Thread(target=self._serve, args=(name, stop), name=f"deliver-{name}", daemon=True)
            for name in self._destinations
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        for thread in threads:
            thread.join(timeout=self._policy.lease_s)

    def _serve(self, destination: str, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                worked = self.step(destination)
            except StorageError as error:
                _log.warning("delivery waits for storage", destination=destination, error=str(error))
                worked = False
            if not worked:
                stop.wait(self._policy.poll_s)

    def step(self, destination: str) -> bool:
        """Deliver one document; False when none is due. Raises StorageError where the database or file store fails."""
        owner = f"{self._owner}:{destination}"
        jobs = claim(self._db, JobKind.DELIVER, destination, owner, 1, self._policy.lease_s, time.time())
        for job in jobs:
            try:
                self._deliver(job, owner, destination)
            except LeaseLost:
                _log.warning("the lease of a delivery was lost", job=job.id, destination=destination)
        return bool(jobs)

    def _deliver(self, job: Job, owner: str, destination: str) -> None:
        try:
            document, content = self._load(job)
            note = self._destinations[destination](document, content)
        except RemoteError as error:
            self._failed(job, owner, destination, str(error), permanent=isinstance(error, PeerRefused))
            return
        except StorageBusy:
            raise
        except Exception as error:  # noqa: BLE001  one odd document must not stop the destination's thread
            self._failed(job, owner, destination, f"unexpected {type(error).__name__}", permanent=False)
            return
        with self._db.write() as connection:
            complete(connection, job, owner, time.time())
        log = _log.warning if note else _log.info
        log("delivered", job=job.id, destination=destination, kind=document.kind, study_uid=job.study_uid, reason=note)

    def _load(self, job: Job) -> tuple[DocumentRow, bytes]:
        uid = str(job.payload["document"])
        with self._db.read() as connection:
            document = load_document(connection, uid)
        if document is None:
            raise PeerRefused(f"the outbox names document {uid}, which has no row")
        try:
            return document, self._files.path(document.path).read_bytes()
        except OSError as error:
            raise PeerRefused(f"document {uid} cannot be read back from the file store ({error.strerror})") from error

    def _failed(self, job: Job, owner: str, destination: str, reason: str, *, permanent: bool) -> None:
        now = time.time()
        started = job.first_error_at or now
        if permanent or now - started > self._policy.give_up_s:
            _log.error(
                "delivery is dead; see `wetread jobs list --state dead`", job=job.id, destination=destination, error=reason
            )
            bury(self._db, job, owner, reason, now)
            return
        wait = self._policy.wait_s(job.attempts)
        _log.warning("delivery failed; will retry", job=job.id, destination=destination, error=reason, seconds=round(wait, 1))
        retry_later(self._db, job, owner, reason, now + wait, now)
