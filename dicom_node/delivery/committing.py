"""Storage commitment for one destination: ask, wait, and decide what an answer, or none, means for the object."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from dicom_node import tracing
from dicom_node.delivery.destination import CommitmentPolicy
from dicom_node.delivery.retry import RetryPolicy
from dicom_node.errors import PeerRefused, RemoteError, StorageError, describe
from dicom_node.remote.commitment import REASONS, Asked, Report, ask
from dicom_node.storage import commitments
from dicom_node.storage.commitments import Awaited
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import JobState
from dicom_node.storage.results import load_document
from reporting.uids import derive_uid

_DUPLICATE_TRANSACTION: Final = 0x0131
_FOR_GOOD: Final = frozenset({0x0122})  # the class is not supported: storing it again changes nothing
_OUTCOMES: Final = {
    JobState.DONE: "committed",
    JobState.AWAITING: "asked again",
    JobState.QUEUED: "stored again",
    JobState.DEAD: "given up",
}
_log = structlog.get_logger()


class Committer:
    """Asks a destination to commit itself to what it has stored, and sends again what it has not."""

    def __init__(self, db: Database, name: str, policy: CommitmentPolicy, retry: RetryPolicy, owner: str) -> None:
        self._db, self._name, self._policy, self._retry = db, name, policy, retry
        self._owner = f"{owner}:{name}"
        self._failures = 0  # requests in a row that the peer did not take

    def serve(self, stop: threading.Event) -> None:
        """Ask until ``stop`` is set; what storage cannot do now is waited for."""
        while not stop.is_set():
            try:
                worked = self.step(stop)
            except StorageError as error:
                _log.warning("storage commitment waits for storage", destination=self._name, error=str(error))
                worked = False
            except Exception as error:  # noqa: BLE001 - nobody else asks this destination; the request comes again as it was
                _log.error("internal failure of a storage commitment", destination=self._name, error=describe(error))
                worked = False
            if not worked:
                stop.wait(self._retry.poll_s)

    def step(self, stop: threading.Event) -> bool:
        """Answers that are overdue, then one request; False when nothing is due. Raises StorageError."""
        if not commitments.anything_due(self._db, self._name, self._db.now()):
            return False
        self._judge_silence()
        now = self._db.now()
        asked = commitments.take_request(self._db, self._name, self._owner, self._transaction, self._retry.patience_s, now)
        if asked:
            self._ask(asked, stop)
        return True

    def hear(self, report: Report) -> None:
        """As ``hear``, of a report over the association of the request."""
        hear(self._db, {self._name: (self._policy, self._retry)}, report)

    def _ask(self, asked: Sequence[Awaited], stop: threading.Event) -> None:
        transaction = asked[0].transaction_uid
        answer_by = self._db.now() + self._policy.answer_s
        try:
            ask(self._policy.peer, transaction, [Asked(o.sop_class_uid, o.sop_uid) for o in asked], self.hear, stop)
        except RemoteError as error:
            self._not_taken(transaction, asked, error)
            return
        self._failures = 0
        commitments.request_taken(self._db, transaction, answer_by)
        _log.info("commitment asked for", destination=self._name, count=len(asked))

    def _not_taken(self, transaction: str, asked: Sequence[Awaited], error: RemoteError) -> None:
        now = self._db.now()
        self._failures += 1
        for_good = isinstance(error, PeerRefused)
        late = [one for one in asked if for_good or now - one.stored_at > self._retry.give_up_s]
        with self._db.write() as conn:
            for one in late:
                commitments.settle(conn, one, JobState.DEAD, f"stored, but not committed to: {error}", now)
        _trace(self._db, [(one, JobState.DEAD) for one in late], now)
        wait = self._retry.wait_s(self._failures)
        if len(late) < len(asked):
            commitments.request_not_taken(self._db, transaction, now + wait, f"stored; commitment: {error}", now)
        told = {"destination": self._name, "error": str(error), "count": len(late)}
        _log.warning("commitment could not be asked for", seconds=round(wait, 1), **told)

    def _judge_silence(self) -> None:
        now, settled = self._db.now(), []
        with self._db.write() as conn:
            for one in commitments.overdue(conn, self._name, now):
                said = f"stored, but {self._policy.peer.peer} left {one.asks} requests for commitment without an answer"
                state = JobState.AWAITING if one.asks < self._policy.asks else _again(one, self._policy)
                commitments.settle(conn, one, state, said, now, now + self._retry.wait_s(one.sends))
                settled.append((one, state))
        _trace(self._db, settled, now)

    def _transaction(self, objects: Sequence[Awaited]) -> str:
        """The same objects asked about for the same time make the same transaction, on whatever machine."""
        parts = sorted(f"{one.sop_uid} {one.sends} {one.asks + 1}" for one in objects)
        return derive_uid("storage commitment", self._name, *parts)


def hear(db: Database, policies: Mapping[str, tuple[CommitmentPolicy, RetryPolicy]], report: Report) -> None:
    """What a peer says of a request becomes the state of its deliveries. ``policies``: by destination. Raises StorageError.

    A report of a transaction that awaits nothing any more changes nothing.
    """
    now, settled = db.now(), []
    with db.write() as conn:
        objects = commitments.asked_in(conn, report.transaction_uid)
        for one in objects:
            if one.sop_uid in report.committed:
                commitments.settle(conn, one, JobState.DONE, "", now)
                settled.append((one, JobState.DONE))
            elif one.sop_uid in report.failed and one.destination in policies:
                policy, retry = policies[one.destination]
                state, said = judge(one, policy, report.failed[one.sop_uid])
                commitments.settle(conn, one, state, said, now, now + retry.wait_s(one.sends))
                settled.append((one, state))
    _trace(db, settled, now)
    for name in sorted({one.destination for one in objects}):
        good = sum(one.destination == name and one.sop_uid in report.committed for one in objects)
        bad = sum(one.destination == name and one.sop_uid in report.failed for one in objects)
        if good:
            _log.info("delivered: the peer has committed itself", destination=name, count=good)
        if bad:
            _log.warning("stored, but the peer does not commit itself", destination=name, count=bad)
    if not objects:
        _log.info("a commitment report of a transaction that awaits no answer")


def judge(one: Awaited, policy: CommitmentPolicy, reason: int) -> tuple[JobState, str]:
    """What a Failure Reason (0008,1197) means for the object, and why, for a person."""
    named = f"0x{reason:04X}" + (f", {REASONS[reason]}" if reason in REASONS else "")
    said = f"{policy.peer.peer}: stored {one.sends} times, but then not committed to ({named})"
    if reason in _FOR_GOOD:
        return JobState.DEAD, said
    if reason == _DUPLICATE_TRANSACTION and one.asks < policy.asks:
        return JobState.AWAITING, said
    return _again(one, policy), said


def _trace(db: Database, settled: Sequence[tuple[Awaited, JobState]], now: float) -> None:
    """A step of the study's trace for each answer, or time that ran out: from when it was stored until now."""
    if not tracing.on() or not settled:
        return
    try:
        with db.read() as conn:
            rows = [(one, state, load_document(conn, one.sop_uid)) for one, state in settled]
    except StorageError as error:  # the states are saved; only the collector misses something
        _log.warning("steps of storage commitment are not traced", error=str(error))
        return
    for one, state, document in rows:
        if document is not None:
            tracing.step(
                "commit", document.study_uid, document.revision, one.stored_at, now, destination=one.destination,
                document=document.kind, outcome=_OUTCOMES[state], asks=one.asks, error=state is not JobState.DONE,
            )  # fmt: skip


def _again(one: Awaited, policy: CommitmentPolicy) -> JobState:
    """Store it again, or give up after the policy's last time."""
    return JobState.QUEUED if one.sends < policy.sends else JobState.DEAD
