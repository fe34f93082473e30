"""Studies on their way: batches over studies, STAT before what waits, bounds, orderly ends; no study holds up another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dicom_node.flow import Bounds, Prepared, ReadRequest, prepare
from dicom_node.pixels import PixelReader
from dicom_node.storage.events import EventKind, list_events
from dicom_node.storage.jobs import UNFINISHED_LIMIT, JobKind, JobState, claim, complete, rerun
from dicom_node.storage.results import results_of
from dicom_node.worker.watchdog import STATUS, Step, Watchdog
from dicom_node.worker.worker import READ_QUEUE, Worker
from inference.errors import DeviceFull, DeviceLost
from inference.stages import Study, Triaged
from tests.dicom_node.worker.site import DraftingReader, Site, images_of


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class Run:
    """A worker in a thread of its own."""

    def __init__(self, worker: Worker) -> None:
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._worker = worker
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._worker.run(self.stop)
        except DeviceLost as error:
            self.error = error

    def __enter__(self) -> Run:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def done(site: Site, *studies: str) -> Callable[[], bool]:
    return lambda: all(site.job(study).state is JobState.DONE for study in studies)


def test_a_claim_fills_a_batch_over_studies_and_each_is_as_when_read_alone(site: Site) -> None:
    studies = [site.add(seed) for seed in range(5)]
    alone, together = DraftingReader(), DraftingReader()
    site.read_all(alone, batch=1)
    by_one = {study: {kind: row.sha256 for kind, row in site.documents(study).items()} for study in studies}
    together.on_triage = lambda _: time.sleep(0.3)  # so that the others are ready meanwhile
    again = [site.job(study).id for study in studies]
    assert all(rerun(site.db, job, 0.0) for job in again)
    site.read_all(together, batch=5)
    assert {study: {kind: row.sha256 for kind, row in site.documents(study).items()} for study in studies} == by_one
    assert sum(n for what, n in together.batches if what == "finish") == 5
    assert max(n for what, n in together.batches if what == "finish") > 1
    assert {n for _, n in alone.batches} == {1}


def test_one_that_fails_takes_no_other_with_it(site: Site) -> None:
    studies = [site.add(seed) for seed in range(4)]
    reader = DraftingReader()
    bad: list[str] = []

    def fail(given: Sequence[Study]) -> None:
        bad.extend(images_of(given)[:1] if not bad else [])
        if bad[0] in images_of(given):
            raise ValueError("x")

    reader.on_triage = fail
    site.worker(reader, retry_seconds=1000).step()
    states = [site.job(study).state for study in studies]
    assert sorted(states) == [JobState.DONE] * 3 + [JobState.QUEUED]


def test_a_device_without_room_reads_the_same_studies_in_smaller_batches(site: Site) -> None:
    studies = [site.add(seed) for seed in range(4)]
    reader = DraftingReader()

    def no_room(given: Sequence[Triaged]) -> None:
        if len(given) > 1:
            raise DeviceFull("cuda: drafting failed (out of memory)")

    reader.on_finish = no_room
    site.worker(reader).step()
    assert done(site, *studies)()
    assert all(site.job(study).attempts == 1 for study in studies)


def test_a_slow_study_holds_up_no_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = site.add(1, priority=0)
    quick = [site.add(seed) for seed in range(2, 5)]
    gate = threading.Event()

    def held_up(request: ReadRequest, pixels: PixelReader, bounds: Bounds) -> Prepared:
        if request.study_instance_uid == slow:
            gate.wait(60)
        return prepare(request, pixels, bounds)

    monkeypatch.setattr("dicom_node.worker.stages.prepare", held_up)
    with Run(site.worker(DraftingReader())):
        until(done(site, *quick))
        assert site.job(slow).state is JobState.LEASED
        gate.set()
        until(done(site, slow))


def test_stat_that_comes_while_a_batch_runs_is_in_the_next_one(site: Site) -> None:
    """The worker is full of routine studies, and its models are busy with the first of them."""
    reader, running, go_on = DraftingReader(), threading.Event(), threading.Event()
    order: list[list[str]] = []

    def busy(given: Sequence[Study]) -> None:
        order.append(images_of(given))
        running.set()
        go_on.wait(60)

    reader.on_triage = busy
    for seed in range(6):
        site.add(seed)
    with Run(site.worker(reader, batch=2)):
        until(running.is_set)
        time.sleep(0.3)
        urgent = site.add(99, priority=0)
        until(lambda: site.job(urgent).state is JobState.LEASED)
        time.sleep(0.5)
        go_on.set()
        until(done(site, urgent))
    image = site.reading(urgent).sources[0].sop_instance_uid
    assert image in order[1]


BOUNDS: dict[str, tuple[Bounds, int, str]] = {
    "too many instances": (Bounds(instances=2), 1, "it has 3 instances, more than the 2 allowed"),
    "too much memory": (Bounds(memory_mb=0.01), 1, "its pictures take more than the 0.01 MiB of memory allowed"),
    "too slow, twice": (Bounds(seconds=0.0), 2, "opening and decoding its images took longer than the 0 s allowed"),
}


@pytest.mark.parametrize(("bounds", "tries", "reason"), BOUNDS.values(), ids=BOUNDS)
def test_a_study_beyond_its_bounds_is_refused_and_says_so(site: Site, bounds: Bounds, tries: int, reason: str) -> None:
    study = site.add(1, images=3)
    worker = site.worker(DraftingReader(), bounds=bounds)
    for _ in range(tries):
        assert not site.documents(study)
        assert worker.step()
    assert site.job(study).state is JobState.DONE
    assert site.reading(study).reason == reason
    assert set(site.documents(study)) == {"findings-sr", "draft-sr", "fhir-bundle", "hl7-oru"}


def test_an_orderly_end_gives_back_what_was_not_begun(site: Site) -> None:
    reader, running, go_on = DraftingReader(), threading.Event(), threading.Event()

    def busy(_: object) -> None:
        running.set()
        go_on.wait(60)

    reader.on_triage = busy
    studies = [site.add(seed) for seed in range(6)]
    run = Run(site.worker(reader, batch=2))
    with run:
        until(running.is_set)
        run.stop.set()
        go_on.set()
    jobs = [site.job(study) for study in studies]
    assert {job.state for job in jobs} <= {JobState.DONE, JobState.QUEUED}
    left = [job for job in jobs if job.state is JobState.QUEUED]
    assert left
    assert all((job.attempts, job.unfinished) == (0, 0) for job in left)
    site.read_all(DraftingReader())
    assert done(site, *studies)()


def test_a_lost_device_ends_the_worker_and_each_study_is_read_alone(site: Site) -> None:
    studies = [site.add(seed) for seed in range(3)]
    reader = DraftingReader()

    def lost(_: object) -> None:
        raise DeviceLost("cuda: triage failed (an illegal memory access was encountered)")

    reader.on_triage = lost
    with pytest.raises(DeviceLost):
        site.worker(reader).run(threading.Event())
    assert {(site.job(study).state, site.job(study).unfinished) for study in studies} == {(JobState.QUEUED, 1)}
    with site.db.read() as connection:
        (event,) = list_events(connection, kind=EventKind.FAILURE)
    assert "DeviceLost" in event.text
    fresh = DraftingReader()
    site.read_all(fresh)
    assert done(site, *studies)()
    assert {n for _, n in fresh.batches} == {1}


def test_a_study_that_ended_workers_again_and_again_is_told_as_not_assessable(site: Site) -> None:
    study = site.add(1)
    for n in range(UNFINISHED_LIMIT - 1):
        claim(site.db, JobKind.READ, READ_QUEUE, f"host:{n}:9", 1, -1, time.time())
    site.read_all(DraftingReader())
    assert site.reading(study).reason == f"the reading stopped the node {UNFINISHED_LIMIT - 1} times and was given up"
    assert set(site.documents(study)) == {"findings-sr", "draft-sr", "fhir-bundle", "hl7-oru"}


def test_two_revisions_of_a_study_leave_one_current_result(site: Site) -> None:
    study = site.add(1)
    site.add(1, study=study, revision=2)
    site.read_all(DraftingReader())
    assert {site.job(study, n).state for n in (1, 2)} == {JobState.DONE}
    with site.db.read() as connection:
        assert [row.revision for row in results_of(connection, study)] == [2]


def test_a_revision_waits_for_the_worker_that_reads_the_one_before(site: Site) -> None:
    study = site.add(1)
    (first,) = claim(site.db, JobKind.READ, READ_QUEUE, "other:1:1", 1, 60, time.time())
    site.add(1, study=study, revision=2)
    site.worker(DraftingReader()).step()
    assert site.job(study, 2).state is JobState.QUEUED
    assert site.job(study, 2).attempts == 0
    with site.db.write() as connection:
        complete(connection, first, "other:1:1", time.time())
    until(lambda: site.worker(DraftingReader()).step())
    assert site.job(study, 2).state is JobState.DONE


def test_the_watchdog_tells_of_the_step_that_hangs_and_leaves() -> None:
    told: list[Step] = []
    left: list[int] = []
    dog = Watchdog(told.append, left.append)
    with dog.watching("triage", (), 3600), dog.watching("drafting", (), 0.01):
        until(lambda: bool(left), seconds=30)
    assert [step.what for step in told] == ["drafting"]
    assert left == [STATUS]
    dog.close()


def test_steps_within_their_limits_disturb_nobody() -> None:
    left: list[Any] = []
    dog = Watchdog(left.append, left.append)
    with dog.watching("triage", (), 3600, backstop=True):
        time.sleep(0.7)
    dog.close()
    assert not left
