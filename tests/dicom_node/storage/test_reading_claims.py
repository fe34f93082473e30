"""Which reading is next: STAT first, ageing, one revision of a study, suspects alone, nothing twice."""

from __future__ import annotations

import threading

import pytest

from dicom_node.errors import LeaseLost
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, list_events
from dicom_node.storage.jobs import UNFINISHED_LIMIT, Job, JobKind, JobState, NewJob, complete, enqueue, get_job, hold
from dicom_node.storage.reading_claims import Wish, claim_readings, take_back
from dicom_node.storage.suspects import free_suspects

QUEUE, ME = "read", "host:1:1"
STAT, URGENT, ROUTINE, RESEARCH = 0, 10, 20, 30
STEP = 100.0


def add(db: Database, study: str, priority: int, at: float, *, queue: str = QUEUE, not_before: float = 0.0) -> None:
    with db.write() as conn:
        key = f"{study}:{at}:{queue}"
        enqueue(conn, NewJob(JobKind.READ, queue, key, study, {"revision": 1}, priority, not_before), at)


def claimed(db: Database, limit: int = 8, now: float = 10_000, owner: str = ME, **wish: bool) -> list[Job]:
    return claim_readings(db, QUEUE, owner, Wish(limit, **wish), 60, STEP, now)


ORDERS: dict[str, tuple[list[tuple[str, int, float]], list[str]]] = {
    "by priority": ([("c", ROUTINE, 1), ("b", URGENT, 2), ("a", STAT, 3)], ["a", "b", "c"]),
    "by age within one": ([("b", ROUTINE, 2), ("a", ROUTINE, 1)], ["a", "b"]),
    "routine that waited long enough before urgent": ([("u", URGENT, 201), ("r", ROUTINE, 100)], ["r", "u"]),
    "and not before": ([("u", URGENT, 199), ("r", ROUTINE, 100)], ["u", "r"]),
    "research ages in two steps": ([("u", URGENT, 301), ("s", RESEARCH, 100), ("r", ROUTINE, 202)], ["s", "u", "r"]),
    "nothing passes STAT, however old": ([("r", RESEARCH, 1), ("s", STAT, 9000)], ["s", "r"]),
    "priorities in between": ([("b", 15, 1), ("c", 25, 1), ("a", 12, 1)], ["a", "b", "c"]),
}


@pytest.mark.parametrize(("jobs", "wanted"), ORDERS.values(), ids=ORDERS)
def test_the_order(db: Database, jobs: list[tuple[str, int, float]], wanted: list[str]) -> None:
    for study, priority, at in jobs:
        add(db, study, priority, at)
    assert [job.study_uid for job in claimed(db)] == wanted
    assert not claimed(db)


def test_a_claim_takes_the_first_and_leaves_the_rest(db: Database) -> None:
    for n in range(5):
        add(db, f"r{n}", ROUTINE, n)
        add(db, f"u{n}", URGENT, n)
    assert [job.study_uid for job in claimed(db, limit=3)] == ["u0", "u1", "u2"]
    assert len(claimed(db, limit=100)) == 7


def test_what_is_not_due_or_of_another_queue_waits(db: Database) -> None:
    add(db, "later", STAT, 1, not_before=20_000)
    add(db, "other", STAT, 1, queue="priors")
    assert not claimed(db)
    assert [job.study_uid for job in claimed(db, now=20_000)] == ["later"]


def test_only_stat(db: Database) -> None:
    add(db, "s", STAT, 5)
    add(db, "r", URGENT, 1)
    assert [job.study_uid for job in claimed(db, only_stat=True)] == ["s"]
    assert not claimed(db, only_stat=True)


def test_of_two_revisions_the_first_alone(db: Database) -> None:
    add(db, "a", ROUTINE, 1)
    add(db, "a", ROUTINE, 2)
    add(db, "b", ROUTINE, 3)
    assert [(job.study_uid, job.created_at) for job in claimed(db)] == [("a", 1), ("b", 3)]


def test_a_study_whose_worker_stopped_is_given_alone_and_only_to_who_holds_none(db: Database) -> None:
    for study, at in (("a", 1), ("b", 2)):
        add(db, study, ROUTINE, at)
    assert [job.study_uid for job in claimed(db, limit=1)] == ["a"]
    later = 10_000 + 61
    assert not claimed(db, now=later, alone=False), "nothing passes a suspect"
    (suspect,) = claimed(db, now=later)
    assert (suspect.study_uid, suspect.unfinished) == ("a", 2)
    assert [job.study_uid for job in claimed(db, now=later)] == ["b"]


def test_what_stops_workers_too_often_is_buried_with_an_alert(db: Database) -> None:
    add(db, "a", ROUTINE, 1)
    add(db, "b", ROUTINE, 2)
    for n in range(UNFINISHED_LIMIT):
        assert claimed(db, limit=1, now=10_000 + 100 * n)[0].study_uid == "a"
    assert [job.study_uid for job in claimed(db, now=20_000)] == ["b"]
    with db.read() as conn:
        (event,) = list_events(conn, kind=EventKind.JOB_DEAD)
    assert event.study_uid == "a"


def test_several_claimants_share_and_none_is_doubled(db: Database) -> None:
    for n in range(40):
        add(db, f"s{n}", ROUTINE, n)
    found: list[str] = []

    def take(owner: str) -> None:
        for _ in range(12):
            found.extend(job.study_uid for job in claimed(db, limit=4, owner=owner))

    threads = [threading.Thread(target=take, args=(f"host:{n}:1",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"s{n}" for n in range(40))


def test_a_lease_is_held_until_it_is_lost(db: Database) -> None:
    add(db, "a", ROUTINE, 1)
    (job,) = claimed(db)
    assert not take_back(db, job, 10_000), "it is held"
    with db.write() as conn:
        hold(conn, job, ME)
    assert take_back(db, job, 10_000 + 61)
    with pytest.raises(LeaseLost), db.write() as conn:
        hold(conn, job, ME)
    with pytest.raises(LeaseLost), db.write() as conn:
        complete(conn, job, ME, 10_100)


def test_the_last_words_of_a_worker_that_hangs(db: Database) -> None:
    """All of its studies are freed and read alone; the one that hung alone, again, is refused when it comes up."""
    for n in range(3):
        add(db, f"s{n}", ROUTINE, n)
    first = claimed(db)
    free_suspects(db, ME, first, "A worker's triage hung", 10_001)
    found = [get_job(db, job.id) for job in first]
    assert [(job.state, job.unfinished) for job in found if job] == [(JobState.QUEUED, 1)] * 3
    (again,) = claimed(db)
    free_suspects(db, ME, [again], "A worker's triage hung", 10_002)
    (last,) = claimed(db)
    assert (last.id, last.unfinished) == (again.id, UNFINISHED_LIMIT)
    with db.read() as conn:
        assert [event.study_uid for event in list_events(conn, kind=EventKind.FAILURE)] == [again.study_uid, ""]
