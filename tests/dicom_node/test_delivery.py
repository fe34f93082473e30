"""Delivery against a real database and real files: what is tried again, what is given up, and that nobody waits for another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicom_node.delivery.deliverer import Deliverer
from dicom_node.delivery.destination import Destination, Send, one_by_one
from dicom_node.delivery.retry import RetryPolicy
from dicom_node.delivery.sending import to_folder
from dicom_node.errors import PeerRefused, PeerUnavailable, StorageBusy
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import Job, JobKind, JobState, NewJob, claim, enqueue, list_jobs
from dicom_node.storage.results import DocumentRow, NewDocument, save_document

CONTENT = b"a finished document"
EAGER = RetryPolicy(first_s=0.001, longest_s=0.002, give_up_s=3600, poll_s=0.01, lease_s=30)


@dataclass
class Peer:
    """A destination that answers as told, one answer after the other, then accepts."""

    answers: list[Exception | str] = field(default_factory=list)
    got: list[tuple[str, bytes]] = field(default_factory=list)

    def __call__(self, document: DocumentRow, content: bytes) -> str:
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        self.got.append((document.uid, content))
        return answer


@dataclass
class Outbox:
    """A node's storage with documents that wait for delivery."""

    db: Database
    files: FileStore

    def put(self, *queues: str, uid: str = "1.2.3") -> None:
        stored = self.files.write_document(uid, CONTENT)
        with self.db.write() as connection:
            row = NewDocument(uid, "findings-sr", stored.path, "1.2", 1, "x", "application/dicom", stored.size, stored.sha256)
            save_document(connection, row, time.time())
            for queue in queues:
                job = NewJob(JobKind.DELIVER, queue, f"deliver:{uid}:{queue}", "1.2", {"document": uid})
                enqueue(connection, job, time.time())

    def jobs(self) -> dict[str, Job]:
        return {job.queue: job for job in list_jobs(self.db)}

    def deliverer(self, policy: RetryPolicy = EAGER, **destinations: Send) -> Deliverer:
        targets = {name: Destination(one_by_one(send)) for name, send in destinations.items()}
        return Deliverer(self.db, self.files, targets, policy, "host:1:1")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    db = Database.open(tmp_path / "node.sqlite", synchronous="OFF")
    yield Outbox(db, FileStore(tmp_path))
    db.close()


def test_a_document_is_delivered_once(outbox: Outbox) -> None:
    outbox.put("pacs")
    peer = Peer()
    deliverer = outbox.deliverer(pacs=peer)
    assert deliverer.step("pacs")
    assert not deliverer.step("pacs")
    assert peer.got == [("1.2.3", CONTENT)]
    assert outbox.jobs()["pacs"].state is JobState.DONE


def test_a_warning_means_delivered(outbox: Outbox) -> None:
    outbox.put("pacs")
    peer = Peer(["stored with warning status 0xB000"])
    outbox.deliverer(pacs=peer).step("pacs")
    assert outbox.jobs()["pacs"].state is JobState.DONE


FAILURES = {
    "for later": (PeerUnavailable("PACS: no association"), JobState.QUEUED, "PACS: no association"),
    "for good": (PeerRefused("PACS: status 0xC000"), JobState.DEAD, "PACS: status 0xC000"),
    "unexpected": (KeyError("DOE^JANE"), JobState.QUEUED, "unexpected KeyError"),
    "no memory": (MemoryError(), JobState.QUEUED, "unexpected MemoryError"),
}


@pytest.mark.parametrize(("error", "state", "told"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_is_for_later_or_for_good(outbox: Outbox, error: Exception, state: JobState, told: str) -> None:
    outbox.put("pacs")
    outbox.deliverer(pacs=Peer([error])).step("pacs")
    job = outbox.jobs()["pacs"]
    assert (job.state, job.attempts) == (state, 1)
    assert job.last_error.startswith(told)
    assert "DOE" not in job.last_error


def test_it_is_tried_again_until_it_is_taken(outbox: Outbox) -> None:
    outbox.put("pacs")
    peer = Peer([PeerUnavailable("down")] * 4)
    deliverer = outbox.deliverer(pacs=peer)
    end = time.monotonic() + 30
    while not peer.got and time.monotonic() < end:
        deliverer.step("pacs")
    job = outbox.jobs()["pacs"]
    assert (job.state, job.attempts, len(peer.got)) == (JobState.DONE, 5, 1)


def test_it_is_given_up_when_the_time_is_over_and_stays_in_sight(outbox: Outbox) -> None:
    outbox.put("pacs")
    deliverer = outbox.deliverer(
        RetryPolicy(0.01, 0.02, give_up_s=0.3, lease_s=30), pacs=Peer([PeerUnavailable("down")] * 1000)
    )
    started = time.monotonic()
    while outbox.jobs()["pacs"].state is not JobState.DEAD:
        deliverer.step("pacs")
        assert time.monotonic() - started < 30
    assert time.monotonic() - started >= 0.3
    job = outbox.jobs()["pacs"]
    assert job.attempts > 2
    assert job.last_error == "down"


def test_the_next_attempt_waits_as_the_policy_says(outbox: Outbox) -> None:
    outbox.put("pacs")
    deliverer = outbox.deliverer(RetryPolicy(first_s=1000, longest_s=2000), pacs=Peer([PeerUnavailable("down")]))
    before = time.time()
    deliverer.step("pacs")
    assert 900 <= outbox.jobs()["pacs"].not_before - before <= 1130
    assert not deliverer.step("pacs")


WAITS = [(1, 5), (2, 10), (3, 20), (4, 40), (9, 1280), (10, 1800), (1000, 1800), (10**9, 1800)]


@pytest.mark.parametrize(("attempts", "seconds"), WAITS)
def test_waits_double_up_to_the_longest_with_a_tenth_of_jitter(attempts: int, seconds: float) -> None:
    waits = [RetryPolicy().wait_s(attempts) for _ in range(200)]
    assert all(0.9 * seconds <= wait <= 1.1 * seconds for wait in waits)
    assert len(set(waits)) > 100


def test_a_destination_that_hangs_delays_no_other(outbox: Outbox) -> None:
    """One hangs, one fails at once, one works: the third has all its documents long before the first answers."""
    for number in range(5):
        outbox.put("hangs", "fails", "works", uid=f"1.2.{number}")
    released = threading.Event()

    def hangs(_document: DocumentRow, _content: bytes) -> str:
        released.wait(60)
        return ""

    works, fails = Peer(), Peer([PeerUnavailable("down")] * 1000)
    stop = threading.Event()
    runner = threading.Thread(target=outbox.deliverer(hangs=hangs, fails=fails, works=works).run, args=(stop,))
    runner.start()
    try:
        end = time.monotonic() + 30
        while len(works.got) < 5 and time.monotonic() < end:
            time.sleep(0.01)
        assert sorted(uid for uid, _ in works.got) == [f"1.2.{number}" for number in range(5)]
        assert not released.is_set()
    finally:
        released.set()
        stop.set()
        runner.join(30)
    assert not runner.is_alive()


def test_a_document_without_row_is_dead_with_its_reason(outbox: Outbox) -> None:
    with outbox.db.write() as connection:
        enqueue(connection, NewJob(JobKind.DELIVER, "pacs", "k", "1.2", {"document": "9.9"}), time.time())
    peer = Peer()
    outbox.deliverer(pacs=peer).step("pacs")
    assert outbox.jobs()["pacs"].state is JobState.DEAD
    assert "9.9, which has no row" in outbox.jobs()["pacs"].last_error
    assert peer.got == []


def test_a_document_without_file_is_dead_with_its_reason(outbox: Outbox) -> None:
    outbox.put("pacs")
    for path in (outbox.files.root / "documents").rglob("*.dcm"):
        path.unlink()
    outbox.deliverer(pacs=Peer()).step("pacs")
    assert outbox.jobs()["pacs"].state is JobState.DEAD
    assert "cannot be read back" in outbox.jobs()["pacs"].last_error


def test_a_lease_that_was_taken_is_left_to_its_new_owner(outbox: Outbox) -> None:
    outbox.put("pacs")

    def slow(_document: DocumentRow, _content: bytes) -> str:
        claim(outbox.db, JobKind.DELIVER, "pacs", "host:2:2", 1, 60, time.time() + 3600)
        return ""

    assert outbox.deliverer(pacs=slow).step("pacs")
    job = outbox.jobs()["pacs"]
    assert (job.state, job.lease_owner) == (JobState.LEASED, "host:2:2")


def test_a_busy_database_stops_no_thread(outbox: Outbox) -> None:
    outbox.put("pacs")
    peer = Peer([StorageBusy("locked")])
    policy = RetryPolicy(poll_s=0.01, lease_s=0.1)
    stop = threading.Event()
    runner = threading.Thread(target=outbox.deliverer(policy, pacs=peer).run, args=(stop,))
    runner.start()
    end = time.monotonic() + 30
    while not peer.got and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    runner.join(10)
    assert peer.got == [("1.2.3", CONTENT)]


def test_a_folder_takes_the_same_document_twice_as_one(outbox: Outbox, tmp_path: Path) -> None:
    outbox.put("out")
    with outbox.db.read() as connection:
        from dicom_node.storage.results import load_document

        document = load_document(connection, "1.2.3")
    assert document is not None
    for _ in range(2):
        assert to_folder(tmp_path / "out", document, CONTENT) == ""
    (made,) = (tmp_path / "out").iterdir()
    assert (made.name, made.read_bytes()) == ("findings-sr-1.2.3.dcm", CONTENT)
