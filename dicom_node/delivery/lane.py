"""One destination's part of the outbox: its own threads, its own breaker, so that it can hold up no other."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any, Final

import structlog

from dicom_node import measures, tracing
from dicom_node.delivery.breaker import Breaker, BreakerState
from dicom_node.delivery.destination import Answer, Destination, Parcel
from dicom_node.delivery.retry import RetryPolicy
from dicom_node.delivery.turns import Turn, turn_of
from dicom_node.errors import LeaseLost, PeerRefused, PeerUnavailable, RemoteError, StorageError, describe
from dicom_node.storage import commitments, outbox
from dicom_node.storage.bell import delivery_topic
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import Job, JobKind, bury, claim, complete, heartbeat, postpone, release, retry_later
from dicom_node.storage.owner import host_name
from dicom_node.storage.results import load_document

_TURN_S: Final = 0.5
_log = structlog.get_logger()


class Lane:
    """Claims and sends what waits for one destination."""

    def __init__(
        self, db: Database, files: FileStore, name: str, destination: Destination, policy: RetryPolicy, owner: str
    ) -> None:
        self._db, self._files, self._policy = db, files, policy
        self._name, self._destination = name, destination
        self._owner = f"{owner}:{name}"
        self._claims = itertools.count(1)  # each is an owner of its own: their number is what `concurrency` bounds everywhere
        self._gate, self._telling = threading.Lock(), threading.Lock()
        self.breaker = Breaker(policy.breaker)

    def serve(self, stop: threading.Event) -> None:
        """Send until ``stop`` is set; what storage cannot do now is waited for. Run by each of the lane's threads."""
        while not stop.is_set():
            try:
                worked = self._step_in_turn(stop)
            except StorageError as error:
                _log.warning("delivery waits for storage", destination=self._name, error=str(error))
                worked = False
                stop.wait(self._policy.poll_s)
            except Exception as error:  # noqa: BLE001 - nobody else may serve this destination; the lease runs out
                _log.error("internal failure of a delivery", destination=self._name, error=describe(error))
                worked = False
            if not worked:
                stop.wait(self._policy.poll_s)

    def step(self) -> bool:
        """Send what one claim gives; False when nothing is due. Raises StorageError where the database or file store fails."""
        jobs = self._claimed()
        self._send(jobs)
        return bool(jobs)

    def _step_in_turn(self, stop: threading.Event) -> bool:
        """Of idle threads only one looks for work, so that many threads ask the database no more than one."""
        while not self._gate.acquire(timeout=self._policy.poll_s):
            if stop.is_set():
                return False
        try:
            bell = self._db.bell(delivery_topic(self._name))
            rung = bell.rung
            jobs = self._claimed()
            if not jobs:
                bell.wait(rung, self._policy.poll_s, stop)
        finally:
            self._gate.release()
        self._send(jobs)
        return self.breaker.state is BreakerState.CLOSED  # a trial that came to nothing is not repeated at once

    def _claimed(self) -> list[Job]:
        now = self._db.now()
        permit = self.breaker.permit(now)
        if permit is BreakerState.OPEN:
            return []
        lease_s, queue, most = self._policy.lease_s, self._name, self._destination.concurrency
        owner = f"{self._owner}:{next(self._claims)}"
        if permit is BreakerState.CLOSED:
            return claim(self._db, JobKind.DELIVER, queue, owner, self._destination.batch, lease_s, now, most)
        jobs: list[Job] = []
        try:
            jobs = outbox.claim_probe(self._db, queue, owner, lease_s, now, most)
        finally:
            if not jobs:
                self.breaker.untried()
        return jobs

    def _send(self, jobs: list[Job]) -> None:
        left = {job.id: job for job in jobs}
        try:
            with self._kept(left):
                self._send_all(left)
        except LeaseLost:
            _log.warning("the lease of a delivery was lost", destination=self._name)
        except StorageError:
            with suppress(StorageError):  # not the delivery's fault: no unfinished attempt is held against it
                self._give_back(left)
            raise
        finally:
            self.breaker.untried()
        self._give_back(left)

    def _give_back(self, left: Mapping[int, Job]) -> None:
        if left:
            release(self._db, list(left.values()), next(iter(left.values())).lease_owner)

    @contextmanager
    def _kept(self, left: Mapping[int, Job]) -> Iterator[None]:
        """Renew the leases of what is ``left`` while the body runs."""
        over = threading.Event()
        owner = next((job.lease_owner for job in left.values()), "")
        thread = threading.Thread(target=self._renew, args=(left, owner, over), name="renew", daemon=True)
        if left:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if thread.ident is not None:
                thread.join()

    def _renew(self, left: Mapping[int, Job], owner: str, over: threading.Event) -> None:
        ids, end = list(left), time.monotonic() + self._policy.patience_s
        while not over.wait(self._policy.lease_s / 3) and time.monotonic() < end:
            now = list(left)
            if now != ids:
                ids, end = now, time.monotonic() + self._policy.patience_s
            with suppress(StorageError):  # what storage cannot do now, the next turn may; else the lease runs out
                heartbeat(self._db, owner, ids, self._policy.lease_s, self._db.now())

    def _send_all(self, left: dict[int, Job]) -> None:
        """Takes from ``left`` what is settled."""
        parcels = list(self._loaded(left))
        by_key = {job.idempotency_key: job for job in left.values()}
        if not parcels:
            return
        if self._destination.witness is not None:
            self._destination.witness.begun([parcel.document for parcel in parcels])
        try:
            with closing(self._destination.send(parcels)) as answers:
                for answer in answers:
                    job = by_key[answer.parcel.key]
                    del left[job.id]
                    self._settle(job, answer)
                    if left and not heartbeat(self._db, job.lease_owner, left, self._policy.lease_s, self._db.now()):
                        left.clear()
                        raise LeaseLost("another process has taken over the rest of the batch")
        except StorageError:
            raise
        except RemoteError as error:
            self._none_sent(left, error)
        except Exception as error:
            first = next(iter(left.values()), None)
            if first is None:
                raise
            self._none_sent({first.id: left.pop(first.id)}, _unexpected(error))

    def _loaded(self, left: dict[int, Job]) -> Iterable[Parcel]:
        for job in list(left.values()):
            try:
                if self._has_turn(job):
                    yield self._parcel(job)
                else:
                    del left[job.id]
            except RemoteError as error:
                del left[job.id]
                self._failed(job, error)

    def _has_turn(self, job: Job) -> bool:
        """A delivery that has not is settled here."""
        turn, now = turn_of(self._db, job), self._db.now()
        if turn is Turn.LATER:
            postpone(self._db, job, job.lease_owner, "the findings of the same result are being sent", now + _TURN_S, now)
        elif turn is Turn.NEVER:
            with self._db.write() as connection:
                complete(connection, job, job.lease_owner, now)
            _log.info("not sent: the whole result is", job=job.id, destination=self._name, study_uid=job.study_uid)
        return turn is Turn.NOW

    def _parcel(self, job: Job) -> Parcel:
        uid = str(job.payload["document"])
        with self._db.read() as connection:
            document = load_document(connection, uid)
        if document is None:
            raise PeerRefused(f"the outbox names document {uid}, which has no row")
        path = self._files.path(document.path)
        try:
            content = path.read_bytes()
        except OSError as error:  # a disk that fails or is not mounted may be put right; a file that alone is gone is lost
            kind = PeerRefused if isinstance(error, FileNotFoundError) and path.parent.is_dir() else PeerUnavailable
            raise kind(f"document {uid} cannot be read back from the file store ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != document.sha256:
            raise PeerRefused(f"the file of document {uid} is not what was written; it is damaged and will not be sent")
        return Parcel(document, content, job.idempotency_key)

    def _settle(self, job: Job, answer: Answer) -> None:
        if isinstance(answer.error, PeerUnavailable):
            self._failed(job, answer.error)
            self._unavailable(answer.error)
            return
        if self.breaker.answered():
            self._recovered()
        if answer.error is not None:
            self._failed(job, answer.error)
            return
        awaits = self._destination.commitment is not None and answer.stored is not None
        with self._db.write() as connection:
            if awaits and answer.stored:
                commitments.begin(connection, job, job.lease_owner, answer.stored, self._db.now())
            else:
                complete(connection, job, job.lease_owner, self._db.now())
            if self._destination.witness is not None:
                self._destination.witness.delivered(connection, answer.parcel.document)
        log = _log.warning if answer.note else _log.info
        told = {"kind": answer.parcel.document.kind, "study_uid": job.study_uid, "reason": answer.note}
        log("stored, awaits commitment" if awaits else "delivered", job=job.id, destination=self._name, **told)
        tracing.step(
            "deliver", job.study_uid, answer.parcel.document.revision, job.created_at, self._db.now(),
            destination=self._name, document=answer.parcel.document.kind, awaits_commitment=awaits,
        )  # fmt: skip

    def _none_sent(self, left: dict[int, Job], error: RemoteError) -> None:
        for job in list(left.values()):
            del left[job.id]
            self._failed(job, error)
        self._unavailable(error)

    def _failed(self, job: Job, error: RemoteError) -> None:
        now, reason = self._db.now(), str(error)
        if isinstance(error, PeerRefused) or now - (job.first_error_at or now) > self._policy.give_up_s:
            told: dict[str, Any] = {"job": job.id, "destination": self._name, "error": reason}
            _log.error("delivery is dead; see `wetread jobs list --state dead`", **told)
            bury(self._db, job, job.lease_owner, reason, now)
            measures.count(measures.DELIVERIES, destination=self._name, outcome="dead")
            return
        wait = self._policy.wait_s(job.attempts)
        told = {"job": job.id, "destination": self._name, "error": reason, "seconds": round(wait, 1)}
        _log.warning("delivery failed; will retry", **told)
        retry_later(self._db, job, job.lease_owner, reason, now + wait, now)
        measures.count(measures.DELIVERIES, destination=self._name, outcome="retried")

    def _unavailable(self, error: RemoteError) -> None:
        now = self._db.now()
        if not self.breaker.failed(now):
            return
        self.tell_state(str(error))
        dead = outbox.hold_back(self._db, self._name, str(error), self._policy.give_up_s, now)
        seconds = round(self.breaker.next_try_at - now, 1)
        told: dict[str, Any] = {"destination": self._name, "error": str(error), "seconds": seconds, "count": dead}
        _log.error("the destination is down; its deliveries are held back", state=self.breaker.state.value, **told)

    def _recovered(self) -> None:
        self.tell_state("")
        due = outbox.hasten(self._db, self._name, self._db.now())
        _log.warning("the destination is back", destination=self._name, state=self.breaker.state.value, count=due)

    def tell_state(self, error: str) -> None:
        """Leave word of the breaker in the database, where an operator looks. Raises StorageBusy."""
        name, breaker = self._name, self.breaker
        with self._telling:  # of two threads, the later word must be of the later state
            state, now = breaker.state.value, self._db.now()
            told = outbox.DestinationState(name, host_name(), state, breaker.failures, now, breaker.next_try_at, error)
            outbox.save_state(self._db, told)


def _unexpected(error: Exception) -> PeerUnavailable:
    """For later: a fault of ours may be mended by the next version, and the document must not be lost."""
    return PeerUnavailable(f"unexpected {describe(error)}")
