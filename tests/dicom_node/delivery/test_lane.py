"""One destination's lane: batches, what is left of them, and what its outage means for all that waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dicom_node.delivery.breaker import BreakerPolicy
from dicom_node.delivery.destination import Answer, Destination, Parcel
from dicom_node.delivery.lane import Lane
from dicom_node.delivery.retry import RetryPolicy
from dicom_node.errors import PeerRefused, PeerUnavailable, StorageBusy
from dicom_node.storage import outbox as stored_outbox
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, list_events
from dicom_node.storage.jobs import JobKind, JobState, claim
from dicom_node.storage.outbox import DestinationState, destination_states_of, rerun_dead
from dicom_node.storage.results import DocumentRow, load_document
from tests.dicom_node.delivery.conftest import Outbox

POLICY = RetryPolicy(first_s=0.01, longest_s=0.02, poll_s=0.01, lease_s=30, breaker=BreakerPolicy(2, 0.05, 0.1))


@dataclass
class Peer:
    """Takes a batch as told: ``poison`` it cannot take and hangs up over, ``refused`` it refuses, ``down`` it is not there."""

    poison: str = ""
    refused: str = ""
    down: bool = False
    got: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def __call__(self, parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
        if self.down:
            raise PeerUnavailable("down")
        self.batches.append(len(parcels))
        for parcel in parcels:
            if parcel.document.uid == self.poison:
                yield Answer(parcel, PeerUnavailable("hung up"))
                return
            if parcel.document.uid == self.refused:
                yield Answer(parcel, PeerRefused("no such class"))
                continue
            self.got.append(parcel.document.uid)
            yield Answer(parcel)


def lane(outbox: Outbox, peer: Peer, policy: RetryPolicy = POLICY, owner: str = "host:1:1", batch: int = 4) -> Lane:
    return Lane(outbox.db, outbox.files, "pacs", Destination(peer, batch), policy, owner)


def step_until(work: Lane, true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        if not work.step():
            time.sleep(0.005)


def test_a_batch_goes_in_one_and_only_what_failed_goes_again(outbox: Outbox) -> None:
    outbox.put("1.1", "1.2", "1.3", "1.4")
    peer = Peer(refused="1.2")
    lane(outbox, peer).step()
    assert outbox.told() == {"1.1": ("done", 1), "1.2": ("dead", 1), "1.3": ("done", 1), "1.4": ("done", 1)}
    assert peer.batches == [4]


def test_one_over_which_the_peer_hangs_up_costs_the_others_nothing(outbox: Outbox) -> None:
    outbox.put("1.1", "1.2", "1.3", "1.4")
    peer = Peer(poison="1.2")
    step_until(lane(outbox, peer, RetryPolicy(first_s=1000, longest_s=1000)), lambda: len(peer.got) >= 3)
    assert sorted(peer.got) == ["1.1", "1.3", "1.4"]
    told = outbox.told()
    assert told.pop("1.2")[0] == "queued"
    assert {state for state, _ in told.values()} == {"done"}
    assert {job.last_error for uid, job in outbox.jobs().items() if uid != "1.2"} == {""}


def test_a_trial_never_hangs_on_the_delivery_that_is_itself_the_fault(outbox: Outbox) -> None:
    """Alone, the poisoned one opens the breaker; what comes after it is tried first and closes it again."""
    outbox.put("1.1")
    peer = Peer(poison="1.1")
    work = lane(outbox, peer)
    step_until(work, lambda: work.breaker.failures >= 2)
    outbox.put("1.2", "1.3")
    step_until(work, lambda: len(peer.got) >= 2)
    assert sorted(peer.got) == ["1.2", "1.3"]


def test_while_a_destination_is_down_it_is_tried_with_one_and_all_carry_the_reason(outbox: Outbox) -> None:
    outbox.put(*(f"1.{number}" for number in range(20)))
    peer = Peer(down=True)
    work = lane(outbox, peer, RetryPolicy(first_s=0.01, longest_s=0.02, breaker=BreakerPolicy(2, 1000, 1000)))
    step_until(work, lambda: work.breaker.failures >= 2)
    for _ in range(5):
        work.step()
    jobs = outbox.jobs().values()
    assert sum(job.attempts for job in jobs) == 8  # two batches of four, and then no more
    assert {job.last_error for job in jobs} == {"down"}
    with outbox.db.read() as connection:
        (state,) = destination_states_of(connection)
    assert (state.destination, state.state, state.failures, state.last_error) == ("pacs", "open", 2, "down")
    assert state.next_try_at > time.time() + 800


def test_when_it_is_back_nothing_waits_for_its_own_next_try(outbox: Outbox) -> None:
    outbox.put(*(f"1.{number}" for number in range(12)))
    peer = Peer(down=True)
    work = lane(outbox, peer, RetryPolicy(first_s=1000, longest_s=1000, breaker=BreakerPolicy(2, 0.05, 0.1)))
    step_until(work, lambda: work.breaker.failures >= 2)
    assert min(job.not_before for job in outbox.jobs().values() if job.attempts) > time.time() + 800
    peer.down = False
    step_until(work, lambda: {state for state, _ in outbox.told().values()} == {"done"})
    with outbox.db.read() as connection:
        assert [one.state for one in destination_states_of(connection)] == ["closed"]


def test_of_two_threads_the_last_word_in_the_database_is_of_the_last_state(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One opens the breaker and is slow to say so; another closes it."""
    work = lane(outbox, Peer(), RetryPolicy(breaker=BreakerPolicy(1, 1000, 1000)))
    save, opening, closed = stored_outbox.save_state, threading.Event(), threading.Event()

    def slow_to_open(db: Database, state: DestinationState) -> None:
        if state.state == "open":
            opening.set()
            closed.wait(1.0)
        save(db, state)
        if state.state == "closed":
            closed.set()

    monkeypatch.setattr(stored_outbox, "save_state", slow_to_open)
    opener = threading.Thread(target=work._unavailable, args=(PeerUnavailable("down"),))
    opener.start()
    assert opening.wait(20)
    assert work.breaker.answered()
    work._recovered()
    opener.join()
    with outbox.db.read() as connection:
        assert [one.state for one in destination_states_of(connection)] == [work.breaker.state.value] == ["closed"]


def test_all_that_waited_too_long_is_given_up_even_if_never_tried_and_can_be_sent_again(outbox: Outbox) -> None:
    outbox.put(*(f"1.{number}" for number in range(8)))
    peer = Peer(down=True)
    work = lane(outbox, peer, RetryPolicy(0.01, 0.02, give_up_s=0.3, breaker=BreakerPolicy(2, 0.05, 0.1)), batch=1)
    step_until(work, lambda: {state for state, _ in outbox.told().values()} == {"dead"})
    assert {job.last_error for job in outbox.jobs().values()} == {"down"}
    assert any(attempts == 0 for _, attempts in outbox.told().values())
    with outbox.db.read() as connection:
        assert len(list_events(connection, kind=EventKind.JOB_DEAD)) == 8
    peer.down = False
    assert rerun_dead(outbox.db, "pacs", time.time()) == 8
    step_until(work, lambda: len(peer.got) >= 8)
    assert len(set(peer.got)) == len(peer.got) == 8


def test_two_deliverers_send_no_document_twice(outbox: Outbox) -> None:
    uids = [f"1.{number}" for number in range(60)]
    outbox.put(*uids)
    peers, stop = [Peer(), Peer()], threading.Event()
    lanes = [lane(outbox, peer, owner=f"host:{n}:{n}", batch=3) for n, peer in enumerate(peers)]
    threads = [threading.Thread(target=one.serve, args=(stop,)) for one in lanes for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while {state for state, _ in outbox.told().values()} != {"done"} and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert sorted(peers[0].got + peers[1].got) == sorted(uids)


def test_a_batch_whose_lease_was_taken_stops_and_leaves_the_rest_to_its_new_owner(outbox: Outbox) -> None:
    outbox.put("1.1", "1.2", "1.3")
    peer = Peer()

    def stolen(parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
        for answer in peer(parcels):
            yield answer
            claim(outbox.db, JobKind.DELIVER, "pacs", "host:2:2", 3, 60, time.time() + 3600)

    Lane(outbox.db, outbox.files, "pacs", Destination(stolen, 3), POLICY, "host:1:1").step()
    jobs = outbox.jobs()
    assert jobs["1.1"].state is JobState.DONE
    assert (jobs["1.2"].state, jobs["1.2"].lease_owner) == (JobState.LEASED, "host:2:2")
    assert (jobs["1.3"].state, jobs["1.3"].lease_owner) == (JobState.QUEUED, "")  # not begun, so anybody's
    assert peer.got == ["1.1", "1.2"]


def test_a_damaged_file_is_never_sent_and_an_odd_document_stops_no_other(outbox: Outbox) -> None:
    outbox.put("1.1", "1.2", "1.3", "1.4")
    with outbox.db.read() as connection:
        row = load_document(connection, "1.1")
    assert row is not None
    outbox.files.path(row.path).write_bytes(b"other bytes")
    peer = Peer()

    def odd(parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
        for parcel, answer in zip(parcels, peer(parcels), strict=True):
            if parcel.document.uid == "1.3":
                raise KeyError("DOE^JANE")
            yield answer

    policy = RetryPolicy(first_s=1000, longest_s=1000)
    work = Lane(outbox.db, outbox.files, "pacs", Destination(odd, 4), policy, "host:1:1")
    step_until(work, lambda: len(peer.got) >= 2 and outbox.told()["1.4"][0] == "done")
    told = {uid: state for uid, (state, _) in outbox.told().items()}
    assert told == {"1.1": "dead", "1.2": "done", "1.3": "queued", "1.4": "done"}
    jobs = outbox.jobs()
    assert "is not what was written" in jobs["1.1"].last_error
    assert jobs["1.3"].last_error.startswith("unexpected KeyError")
    assert "DOE" not in jobs["1.3"].last_error


def test_a_file_that_is_gone_ends_its_delivery_a_store_that_is_away_none(outbox: Outbox) -> None:
    outbox.put("1.1", "1.2")
    documents, away = outbox.files.root / "documents", outbox.files.root / "away"
    documents.rename(away)
    peer = Peer()
    work = lane(outbox, peer)
    work.step()
    assert {state for state, _ in outbox.told().values()} == {"queued"}
    assert all("cannot be read back" in job.last_error for job in outbox.jobs().values())
    away.rename(documents)
    with outbox.db.read() as connection:
        row = load_document(connection, "1.1")
    assert row is not None
    outbox.files.path(row.path).unlink()
    step_until(work, lambda: {uid: state for uid, (state, _) in outbox.told().items()} == {"1.1": "dead", "1.2": "done"})


@dataclass
class Witness:
    """Fails with the next of ``troubles``, before anything is sent or when the peer has taken it."""

    before: list[Exception] = field(default_factory=list)
    after: list[Exception] = field(default_factory=list)

    def begun(self, _documents: Sequence[DocumentRow]) -> None:
        if self.before:
            raise self.before.pop()

    def delivered(self, _connection: Any, _document: DocumentRow) -> None:
        if self.after:
            raise self.after.pop()


def serve_until_sent(outbox: Outbox, witness: Witness, lease_s: float) -> list[str]:
    peer, stop = Peer(), threading.Event()
    work = Lane(
        outbox.db, outbox.files, "pacs", Destination(peer, witness=witness), replace(POLICY, lease_s=lease_s), "host:1:1"
    )
    thread = threading.Thread(target=work.serve, args=(stop,))
    thread.start()
    end = time.monotonic() + 60
    while outbox.jobs()["1.1"].state not in (JobState.DONE, JobState.DEAD) and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    thread.join()
    return peer.got


def test_a_lane_outlives_a_fault_that_nobody_foresaw(outbox: Outbox) -> None:
    outbox.put("1.1")
    got = serve_until_sent(outbox, Witness(after=[KeyError("DOE^JANE")]), lease_s=0.2)
    assert outbox.jobs()["1.1"].state is JobState.DONE
    assert got == ["1.1", "1.1"]


def test_storage_that_fails_again_and_again_costs_a_delivery_nothing(outbox: Outbox) -> None:
    outbox.put("1.1")
    assert serve_until_sent(outbox, Witness(before=[StorageBusy("locked") for _ in range(8)]), lease_s=0.05) == ["1.1"]
    assert outbox.told() == {"1.1": ("done", 1)}
