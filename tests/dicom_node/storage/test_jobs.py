"""The job table: order, leases, fencing, burial; against a model of itself, and with processes that die."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dicom_node.errors import LeaseLost
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, list_events
from dicom_node.storage.job_counts import count_jobs
from dicom_node.storage.jobs import (
    UNFINISHED_LIMIT,
    Job,
    JobKind,
    JobState,
    NewJob,
    Priority,
    bury,
    claim,
    complete,
    enqueue,
    get_job,
    heartbeat,
    list_jobs,
    release,
    release_dead,
    rerun,
    retry_later,
)
from dicom_node.storage.owner import current_owner, owner_alive


def _job(
    key: str, priority: int = Priority.ROUTINE, kind: JobKind = JobKind.READ, queue: str = "read", not_before: float = 0.0
) -> NewJob:
    return NewJob(kind, queue, key, "1.2", {"key": key}, priority, not_before)


def _add(db: Database, *new: NewJob, now: float = 0.0) -> None:
    for job in new:
        with db.write() as conn:
            assert enqueue(conn, job, now)


def _claim(db: Database, now: float, owner: str = "a", limit: int = 1, lease_s: float = 10.0) -> list[Job]:
    return claim(db, JobKind.READ, None, owner, limit, lease_s, now)


def _keys(jobs: list[Job]) -> list[str]:
    return [job.idempotency_key for job in jobs]


def _complete(db: Database, job: Job, owner: str, now: float = 5.0) -> None:
    with db.write() as conn:
        complete(conn, job, owner, now)


def test_a_key_is_queued_once_for_ever(db: Database) -> None:
    _add(db, _job("k"))
    (job,) = _claim(db, 0.0)
    _complete(db, job, "a")
    with db.write() as conn:
        assert not enqueue(conn, _job("k"), 9.0)
    assert _claim(db, 99.0) == []


def test_strictly_by_priority_then_age(db: Database) -> None:
    _add(db, _job("research", Priority.RESEARCH), _job("routine 1"), _job("routine 2"), now=0.0)
    _add(db, _job("stat", Priority.STAT), _job("urgent", Priority.URGENT), now=9.0)
    assert _keys(_claim(db, 10.0, limit=10)) == ["stat", "urgent", "routine 1", "routine 2", "research"]


def test_kinds_and_queues_do_not_mix(db: Database) -> None:
    _add(db, _job("r"), _job("d1", kind=JobKind.DELIVER, queue="pacs"), _job("d2", kind=JobKind.DELIVER, queue="fhir"))
    assert _keys(claim(db, JobKind.DELIVER, "fhir", "a", 9, 10.0, 0.0)) == ["d2"]
    assert _keys(claim(db, JobKind.DELIVER, None, "a", 9, 10.0, 0.0)) == ["d1"]
    assert {(count.kind, count.queue, count.state, count.count) for count in count_jobs(db)} == {
        (JobKind.READ, "read", JobState.QUEUED, 1),
        (JobKind.DELIVER, "pacs", JobState.LEASED, 1),
        (JobKind.DELIVER, "fhir", JobState.LEASED, 1),
    }


def test_not_before_its_time(db: Database) -> None:
    _add(db, _job("k", not_before=50.0))
    assert _claim(db, 49.9) == []
    assert _keys(_claim(db, 50.0)) == ["k"]


def test_a_lease_that_ran_out_goes_to_another_and_the_first_is_fenced_off(db: Database) -> None:
    _add(db, _job("k"))
    (first,) = _claim(db, 0.0, "a")
    assert _claim(db, 9.9, "b") == []
    (second,) = _claim(db, 10.0, "b")
    assert (second.attempts, second.unfinished) == (2, 2)
    assert not heartbeat(db, "a", [first.id], 10.0, 11.0)
    with pytest.raises(LeaseLost):
        _complete(db, first, "a")
    with pytest.raises(LeaseLost):
        retry_later(db, first, "a", "x", 0.0, 0.0)
    with pytest.raises(LeaseLost):
        bury(db, first, "a", "x", 0.0)
    _complete(db, second, "b")
    with pytest.raises(LeaseLost):
        _complete(db, second, "b")


def test_an_owner_is_fenced_off_from_its_own_earlier_lease(db: Database) -> None:
    _add(db, _job("k"))
    (first,) = _claim(db, 0.0, "a")
    (second,) = _claim(db, 20.0, "a")
    with pytest.raises(LeaseLost):
        _complete(db, first, "a")
    _complete(db, second, "a")


def test_a_heartbeat_prolongs_the_lease(db: Database) -> None:
    _add(db, _job("k"))
    (job,) = _claim(db, 0.0, "a")
    assert heartbeat(db, "a", [job.id], 10.0, 8.0)
    assert _claim(db, 17.9, "b") == []
    assert len(_claim(db, 18.0, "b")) == 1


def test_completing_late_undoes_what_was_saved_with_it(db: Database) -> None:
    _add(db, _job("k"))
    (first,) = _claim(db, 0.0, "a")
    _claim(db, 20.0, "b")
    with pytest.raises(LeaseLost), db.write() as conn:  # noqa: PT012 - one transaction
        enqueue(conn, _job("follow-up"), 20.0)
        complete(conn, first, "a", 20.0)
    assert len(list_jobs(db)) == 1


def test_retry_keeps_the_first_error_and_the_last(db: Database) -> None:
    _add(db, _job("k"))
    (job,) = _claim(db, 1.0)
    retry_later(db, job, "a", "refused", not_before=30.0, now=2.0)
    (job,) = _claim(db, 30.0)
    retry_later(db, job, "a", "timed out", not_before=90.0, now=31.0)
    found = get_job(db, job.id)
    assert found is not None
    assert (found.state, found.first_error_at, found.last_error) == (JobState.QUEUED, 2.0, "timed out")
    assert (found.attempts, found.unfinished, found.not_before) == (2, 0, 90.0)


def test_the_buried_are_seen_alerted_and_run_again_only_when_told(db: Database) -> None:
    _add(db, _job("k"))
    (job,) = _claim(db, 1.0)
    bury(db, job, "a", "the peer refuses it", 2.0)
    assert _claim(db, 99.0) == []
    assert _keys(list(list_jobs(db, state=JobState.DEAD, kind=JobKind.READ, study_uid="1.2"))) == ["k"]
    with db.read() as conn:
        assert [event.kind for event in list_events(conn)] == [EventKind.JOB_DEAD]
    assert rerun(db, job.id, 100.0)
    assert not rerun(db, job.id, 100.0)
    assert not rerun(db, 12345, 100.0)
    (again,) = _claim(db, 100.0)
    assert (again.first_error_at, again.unfinished) == (None, 1)


def test_a_job_that_kills_its_worker_is_run_alone_then_buried_and_takes_no_other_along(db: Database) -> None:
    _add(db, *(_job(name) for name in ("killer", "one", "two")))
    now, finished, batches = 0.0, [], []
    while batch := _claim(db, now, limit=3, lease_s=1.0):
        batches.append(_keys(batch))
        if "killer" not in _keys(batch):
            for job in batch:
                _complete(db, job, "a")
                finished += [job.idempotency_key]
        now += 1.0
    assert sorted(finished) == ["one", "two"]
    assert batches[0] == ["killer", "one", "two"]
    assert all(batch == ["killer"] for batch in batches[1:] if "killer" in batch)
    assert sum("killer" in batch for batch in batches) == UNFINISHED_LIMIT
    (dead,) = list_jobs(db, state=JobState.DEAD)
    assert dead.last_error == "the worker stopped while working on it 5 times"


def test_an_orderly_stop_gives_back_without_blame(db: Database) -> None:
    _add(db, _job("k"))
    (job,) = _claim(db, 0.0)
    assert release(db, [job], "b") == 0
    assert release(db, [job], "a") == 1
    (again,) = _claim(db, 0.0, "b")
    assert again.unfinished == 1


def _claim_and_die(url: str) -> None:
    database = Database.open(url)
    assert _claim(database, 0.0, current_owner(), lease_s=1e9)
    os._exit(9)


def test_leases_of_dead_processes_are_freed_at_once(db: Database, db_url: str) -> None:
    _add(db, _job("dead's"), _job("mine"))
    child = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(db_url,))
    child.start()
    child.join()
    assert child.exitcode == 9
    assert _keys(_claim(db, 0.0, current_owner())) == ["mine"]
    assert release_dead(db, owner_alive) == 1
    assert _keys(_claim(db, 0.0, "b", limit=5)) == ["dead's"]


def _work(url: str, name: str) -> list[str]:
    database, done = Database.open(url), []
    while batch := _claim(database, 1.0, name, limit=7, lease_s=60.0):
        for job in batch:
            _complete(database, job, name)
            done.append(job.idempotency_key)
    database.close()
    return done


def test_processes_share_the_work_and_double_none(db: Database, db_url: str) -> None:
    keys = [f"k{number}" for number in range(150)]
    with db.write() as conn:
        for key in keys:
            enqueue(conn, _job(key), 0.0)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        done = [key for part in pool.starmap(_work, [(db_url, "a"), (db_url, "b")]) for key in part]
    assert sorted(done) == sorted(keys)


class JobModel(RuleBasedStateMachine):
    """The table against a plain model: who holds what, and what is over. ``address`` gives a new database for each run."""

    address: ClassVar[Callable[[], str]]

    @initialize()
    def open(self) -> None:
        self.db = Database.open(JobModel.address(), synchronous="OFF")
        self.now = 0.0
        self.count = 0
        self.given: list[tuple[str, Job]] = []  # every lease ever given
        self.leases: dict[int, tuple[str, Job]] = {}  # the latest lease of each job that nobody has ended
        self.over: dict[JobState, set[int]] = {JobState.DONE: set(), JobState.DEAD: set()}

    @rule(priority=st.sampled_from(list(Priority)))
    def add(self, priority: Priority) -> None:
        self.count += 1
        _add(self.db, _job(f"k{self.count}", priority), now=self.now)

    @rule(owner=st.sampled_from(["a", "b"]), limit=st.integers(1, 3))
    def take(self, owner: str, limit: int) -> None:
        batch = _claim(self.db, self.now, owner, limit)
        assert len({job.id for job in batch}) == len(batch) <= limit
        assert [job.id for job in batch] == [
            job.id for job in sorted(batch, key=lambda job: (job.priority, job.created_at, job.id))
        ]
        self._note_buried()
        for job in batch:
            assert not any(job.id in ended for ended in self.over.values())
            assert job.id not in self.leases or self.leases[job.id][1].lease_until <= self.now
            self.leases[job.id] = (owner, job)
            self.given.append((owner, job))

    def _note_buried(self) -> None:
        for job_id, (_, job) in list(self.leases.items()):
            if job.unfinished == UNFINISHED_LIMIT and job.lease_until <= self.now:
                del self.leases[job_id]
                self.over[JobState.DEAD].add(job_id)

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.given)
    @rule(data=st.data(), how=st.sampled_from(["complete", "retry", "bury"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        owner, job = data.draw(st.sampled_from(self.given))
        if self.leases.get(job.id) != (owner, job):
            with pytest.raises(LeaseLost):
                self._finish(how, owner, job)
            return
        self._finish(how, owner, job)
        del self.leases[job.id]
        if how != "retry":
            self.over[JobState.DONE if how == "complete" else JobState.DEAD].add(job.id)

    def _finish(self, how: str, owner: str, job: Job) -> None:
        if how == "complete":
            _complete(self.db, job, owner, self.now)
        elif how == "retry":
            retry_later(self.db, job, owner, "later", self.now, self.now)
        else:
            bury(self.db, job, owner, "never", self.now)

    @invariant()
    def states_are_those_of_the_model(self) -> None:
        jobs = list_jobs(self.db, limit=1000)
        assert len(jobs) == self.count
        for state in JobState:
            expected = self.over.get(state, set(self.leases) if state is JobState.LEASED else None)
            if expected is not None:
                assert {job.id for job in jobs if job.state is state} == expected

    def teardown(self) -> None:
        self.db.close()


def test_the_table_behaves_like_its_model(new_url: Callable[[], str]) -> None:
    JobModel.address = staticmethod(new_url)
    JobModel.TestCase.settings = settings(
        max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    JobModel.TestCase("runTest").runTest()
