"""Findings that were sent before their draft never come after the whole result."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from dicom_node.delivery.breaker import BreakerPolicy
from dicom_node.delivery.destination import Destination, one_by_one
from dicom_node.delivery.lane import Lane
from dicom_node.delivery.retry import RetryPolicy
from dicom_node.delivery.turns import Turn, turn_of
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import Job, JobKind, JobState, NewJob, claim, enqueue, list_jobs
from dicom_node.storage.outbox import delivery_key
from dicom_node.storage.results import DocumentRow, NewDocument, save_document
from reporting.uids import derive_uid, is_preliminary, preliminary_uid, whole_uid

WHOLE = derive_uid("a message")
FIRST = preliminary_uid(WHOLE)
PLACE = "record"
POLICY = RetryPolicy()


def test_the_two_names_of_a_message() -> None:
    assert whole_uid(FIRST) == whole_uid(WHOLE) == WHOLE
    assert is_preliminary(FIRST)
    assert not any(map(is_preliminary, (WHOLE, "1.2.840.10008.1.1", "2.25.1.2", "1.2.25.3.1", "")))


class Outbox:
    def __init__(self, folder: Path) -> None:
        self.db, self.files = Database.open(folder / "node.sqlite", synchronous="OFF"), FileStore(folder)
        self.sent: list[str] = []

    def put(self, uid: str, held: str = "") -> None:
        stored = self.files.write_document(uid, uid.encode(), ".json")
        row = NewDocument(uid, "fhir-bundle", stored.path, "1.2", 1, "r", "application/fhir+json", stored.size, stored.sha256)
        with self.db.write() as connection:
            save_document(connection, NewDocument(**{**_values(row), "held": held}), time.time())
            if not held:
                job = NewJob(JobKind.DELIVER, PLACE, delivery_key(uid, PLACE), "1.2", {"document": uid})
                enqueue(connection, job, time.time())

    def job(self, uid: str) -> Job:
        (found,) = [job for job in list_jobs(self.db) if job.payload["document"] == uid]
        return found

    def lane(self, policy: RetryPolicy = POLICY, at_once: int = 1) -> Lane:
        def send(document: DocumentRow, _content: bytes) -> str:
            self.sent.append(document.uid)
            return ""

        return Lane(self.db, self.files, PLACE, Destination(one_by_one(send), 1, at_once), policy, "host:1:1")


def _values(row: NewDocument) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__slots__}


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    found = Outbox(tmp_path)
    with closing(found.db):
        yield found


def test_in_order_both_are_sent(outbox: Outbox) -> None:
    lane = outbox.lane()
    for uid in (FIRST, WHOLE):
        outbox.put(uid)
        assert lane.step()
    assert outbox.sent == [FIRST, WHOLE]


def test_where_the_whole_is_there_before_the_first_was_sent_only_it_goes_out(outbox: Outbox) -> None:
    lane = outbox.lane()
    for uid in (FIRST, WHOLE):
        outbox.put(uid)
    while lane.step():
        pass
    assert outbox.sent == [WHOLE]
    assert outbox.job(FIRST).state is JobState.DONE


def test_a_whole_result_that_is_held_keeps_no_findings_back(outbox: Outbox) -> None:
    outbox.put(FIRST)
    outbox.put(WHOLE, held="a rule")
    assert outbox.lane().step()
    assert outbox.sent == [FIRST]


def test_the_whole_waits_for_findings_that_are_on_their_way(outbox: Outbox) -> None:
    outbox.put(FIRST)
    (on_its_way,) = _claim(outbox)
    outbox.put(WHOLE)
    assert turn_of(outbox.db, outbox.job(WHOLE)) is Turn.LATER
    outbox.lane().step()
    assert outbox.sent == []
    job = outbox.job(WHOLE)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0), "it costs no attempt"
    assert turn_of(outbox.db, on_its_way) is Turn.NEVER


def test_a_trial_that_has_to_wait_is_not_repeated_without_a_pause(outbox: Outbox) -> None:
    outbox.put(FIRST)
    _claim(outbox)
    outbox.put(WHOLE)
    lane, stop = outbox.lane(RetryPolicy(poll_s=0.1, breaker=BreakerPolicy(1, 0.01, 0.01)), at_once=2), threading.Event()
    lane.breaker.failed(time.time())
    with patch.object(Lane, "_has_turn", autospec=True, side_effect=Lane._has_turn) as looked:
        thread = threading.Thread(target=lane.serve, args=(stop,))
        thread.start()
        time.sleep(1)
        stop.set()
        thread.join()
    assert 1 <= looked.call_count <= 12
    assert outbox.sent == []


def _claim(outbox: Outbox) -> Sequence[Job]:
    return claim(outbox.db, JobKind.DELIVER, PLACE, "host:2:2", 1, 60, time.time())
