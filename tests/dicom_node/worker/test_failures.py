"""What becomes of a study whose reading fails: tried again, told as not assessable, or buried in sight; never silence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields

import pytest

from dicom_node.errors import StorageFull
from dicom_node.reading_json import from_json
from dicom_node.storage.instances import NewInstance, instances_of, record_instance
from dicom_node.storage.jobs import JobState
from dicom_node.storage.results import results_of
from inference.errors import DeviceError
from inference.reading import Decision, Reading, Skipped, UseMode
from tests.dicom_node.worker.one_study import Failing, Node
from tests.support import GreyReader

FAILURES = {
    "the device": (DeviceError("the device is out of memory"), "DeviceError: the device is out of memory"),
    "a bug": (KeyError("DOE^JANE"), "KeyError in "),
    "no memory": (MemoryError(), "MemoryError in "),
}


@pytest.mark.parametrize(("error", "told"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_reading_is_tried_again_and_then_succeeds(node: Node, error: Exception, told: str) -> None:
    worker = node.worker(Failing(error, times=2))
    for attempt in (1, 2):
        assert worker.step()
        job = node.state()
        assert (job.state, job.attempts) == (JobState.QUEUED, attempt)
        assert job.last_error.startswith(told)
        assert "DOE" not in job.last_error
        assert node.saved() == (0, 0, 0)
    assert worker.step()
    assert node.saved() == (1, 3, 3)


def test_after_the_last_attempt_the_study_is_told_as_not_assessable(node: Node) -> None:
    worker = node.worker(Failing(DeviceError("lost")), max_attempts=3)
    for _ in range(3):
        assert worker.step()
        assert node.saved() == (0, 0, 0)
    assert worker.step()
    assert node.state().state is JobState.DONE
    assert node.saved() == (1, 3, 3)
    with node.db.read() as connection:
        reading = from_json(results_of(connection, node.study)[0].reading_json)
    assert "failed 3 times and was given up" in reading.reason
    assert {finding.decision for finding in reading.findings} == {Decision.NOT_ASSESSABLE}
    assert not worker.step()


def test_a_full_disk_is_waited_for_and_costs_no_attempt(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = node.worker(GreyReader(UseMode.ASSIST), max_attempts=2)
    with monkeypatch.context() as full:
        full.setattr(node.files, "write_document", _no_room)
        for _ in range(6):
            assert worker.step()
            assert node.state().state is JobState.QUEUED
            assert node.state().last_error.startswith("StorageFull")
    assert worker.step()
    assert node.saved() == (1, 3, 3)
    with node.db.read() as connection:
        assert from_json(results_of(connection, node.study)[0].reading_json).assessed


def _no_room(*_: object) -> None:
    raise StorageFull("the disk is full")


def test_a_study_with_one_file_gone_is_told_as_not_assessable(node: Node) -> None:
    with node.db.write() as connection:
        (row,) = instances_of(connection, node.study)
        kept = {field.name: getattr(row, field.name) for field in fields(NewInstance) if hasattr(row, field.name)}
        gone = NewInstance(**kept | {"sop_uid": "1.2.3", "path": "gone.dcm", "sha256": "1"})
        record_instance(connection, gone, time.time())
    worker = node.worker(GreyReader(UseMode.ASSIST), max_attempts=1)
    assert worker.step()
    assert node.saved() == (0, 0, 0)
    assert worker.step()
    assert node.state().state is JobState.DONE
    with node.db.read() as connection:
        reading = from_json(results_of(connection, node.study)[0].reading_json)
    assert not reading.assessed
    assert [skip.reason for skip in reading.skipped] == ["its file cannot be opened on the node"]


class Broken(Failing):
    """Cannot even say that it failed."""

    def refuse(self, reason: str, skipped: Sequence[Skipped] = ()) -> Reading:  # noqa: ARG002
        raise self.error


def test_what_cannot_even_be_refused_is_buried_in_sight(node: Node) -> None:
    worker = node.worker(Broken(ValueError("x")), max_attempts=1)
    assert worker.step()
    assert worker.step()
    assert node.state().state is JobState.DEAD
    assert node.state().last_error.startswith("ValueError in ")
    assert not worker.step()


def test_the_wait_doubles(node: Node) -> None:
    worker = node.worker(Failing(DeviceError("lost")), retry_seconds=1000)
    before = time.time()
    worker.step()
    assert node.state().not_before == pytest.approx(before + 1000, abs=30)
    assert not worker.step()
    _due_now(node)
    worker.step()
    assert node.state().not_before == pytest.approx(before + 2000, abs=30)


def _due_now(node: Node) -> None:
    from sqlalchemy import update

    from dicom_node.storage.tables import jobs

    with node.db.write() as connection:
        connection.execute(update(jobs).values(not_before=0.0))


def test_a_study_whose_files_are_gone_is_not_lost(node: Node) -> None:
    for path in (node.files.root / "documents").rglob("*.dcm"):
        path.unlink()
    worker = node.worker(GreyReader(UseMode.ASSIST), max_attempts=1)
    for _ in range(2):
        worker.step()
    assert node.state().state is JobState.DEAD
    assert node.state().last_error
