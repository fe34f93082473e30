"""Storage commitment against a real SCP on the loopback: what each answer, or none, makes of a delivery."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from dicom_node import tracing
from dicom_node.delivery.committing import Committer, hear
from dicom_node.delivery.destination import CommitmentPolicy
from dicom_node.delivery.retry import RetryPolicy
from dicom_node.errors import ListenError, StorageBusy
from dicom_node.remote.commitment import CommitmentPeer, Report, ReportListener, read_report
from dicom_node.remote.dimse import DicomPeer
from dicom_node.storage import commitments
from dicom_node.storage.commitments import StoredObject
from dicom_node.storage.jobs import JobKind, claim
from tests.dicom_node.delivery.conftest import Outbox

# pynetdicom drops a socket that could not connect without closing it
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
RETRY = RetryPolicy(first_s=0.01, longest_s=0.02, lease_s=30)
NOBODY = DicomPeer("127.0.0.1", 1, "PACS", "WETREAD", 2)
STOP = threading.Event()


@dataclass
class Scp:
    """Takes requests with ``status`` and answers over the same association where ``report`` is set."""

    status: int = 0
    report: Callable[[Dataset], tuple[int, Dataset]] | None = None
    asked: list[Dataset] = field(default_factory=list)
    told: list[int] = field(default_factory=list)

    def action(self, event: Any) -> tuple[int, None]:
        self.asked.append(event.action_information)
        if self.report:
            threading.Thread(target=self._answer, args=(event.assoc, event.action_information)).start()
        return self.status, None

    def _answer(self, association: Any, request: Dataset) -> None:
        time.sleep(0.1)
        kind, information = self.report(request)  # type: ignore[misc]
        self.told.append(notify(association, kind, information))


def notify(association: Any, kind: int, information: Dataset) -> int:
    answer, _ = association.send_n_event_report(
        information, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return int(answer.Status)


@contextmanager
def listening(scp: Scp) -> Iterator[DicomPeer]:
    entity = AE(ae_title="PACS")
    entity.add_supported_context(StorageCommitmentPushModel)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, scp.action)])
    try:
        yield DicomPeer("127.0.0.1", server.server_address[1], "PACS", "WETREAD", 3)
    finally:
        server.shutdown()


def committer(outbox: Outbox, peer: DicomPeer, owner: str = "me", **policy: Any) -> Committer:
    return Committer(outbox.db, "pacs", policy_for(peer, **policy), RETRY, owner)


def policy_for(peer: DicomPeer, **policy: Any) -> CommitmentPolicy:
    return CommitmentPolicy(CommitmentPeer(peer, hold_s=policy.pop("hold_s", 0)), **policy)


def store(outbox: Outbox, *uids: str) -> None:
    """As after a C-STORE that succeeded."""
    for job in claim(outbox.db, JobKind.DELIVER, "pacs", "me", 100, 60, time.time() + 60):
        if str(job.payload["document"]) in uids:
            with outbox.db.write() as connection:
                commitments.begin(connection, job, "me", StoredObject("1.2.840.1", str(job.payload["document"])), time.time())


def answer(transaction: str, good: tuple[str, ...] = (), bad: dict[str, int] | None = None) -> Report:
    return Report(transaction, frozenset(good), bad or {})


def transaction_of(outbox: Outbox, uid: str) -> str:
    with outbox.db.read() as connection:
        one = commitments.awaited_by(connection, outbox.jobs()[uid].id)
    assert one is not None
    return one.transaction_uid


def all_good(request: Dataset) -> tuple[int, Dataset]:
    information = Dataset()
    information.TransactionUID = request.TransactionUID
    information.ReferencedSOPSequence = request.ReferencedSOPSequence
    return 1, information


@pytest.fixture
def stored(outbox: Outbox) -> Outbox:
    outbox.put("1.1", "1.2", "1.3")
    store(outbox, "1.1", "1.2", "1.3")
    return outbox


def test_one_request_names_all_and_nothing_is_done_before_the_answer(stored: Outbox) -> None:
    scp = Scp()
    with listening(scp) as peer:
        work = committer(stored, peer)
        assert work.step(STOP)
        assert not work.step(STOP)
    (request,) = scp.asked
    assert [item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence] == ["1.1", "1.2", "1.3"]
    assert set(stored.told().values()) == {("awaiting", 1)}


def test_the_answer_may_come_over_the_same_association(stored: Outbox) -> None:
    scp = Scp(report=all_good)
    with listening(scp) as peer:
        committer(stored, peer, hold_s=5).step(STOP)
        end = time.monotonic() + 5
        while not scp.told and time.monotonic() < end:
            time.sleep(0.01)
    assert scp.told == [0]
    assert set(stored.told().values()) == {("done", 1)}


def test_each_object_has_its_own_answer(stored: Outbox) -> None:
    """1.1 is safe, 1.2 was lost, of 1.3 nothing is said: it goes on waiting."""
    with listening(Scp()) as peer:
        work = committer(stored, peer)
        work.step(STOP)
        work.hear(answer(transaction_of(stored, "1.1"), ("1.1",), {"1.2": 0x0112}))
    assert stored.told() == {"1.1": ("done", 1), "1.2": ("queued", 1), "1.3": ("awaiting", 1)}
    assert stored.jobs()["1.2"].last_error.endswith("not committed to (0x0112, no such object instance)")


REASONS = {
    "lost": (0x0112, "queued"),
    "class and instance conflict": (0x0119, "queued"),
    "processing failure": (0x0110, "queued"),
    "resources": (0x0213, "queued"),
    "unknown": (0x1234, "queued"),
    "duplicate transaction": (0x0131, "awaiting"),
    "class not supported": (0x0122, "dead"),
}


@pytest.mark.parametrize(("reason", "state"), REASONS.values(), ids=REASONS.keys())
def test_what_a_failure_reason_means(stored: Outbox, reason: int, state: str) -> None:
    with listening(Scp()) as peer:
        work = committer(stored, peer)
        work.step(STOP)
        work.hear(answer(transaction_of(stored, "1.1"), bad={"1.1": reason}))
    assert stored.told()["1.1"] == (state, 1)
    assert f"0x{reason:04X}" in stored.jobs()["1.1"].last_error


def test_after_the_last_time_it_is_a_dead_letter(stored: Outbox) -> None:
    with listening(Scp()) as peer:
        work = committer(stored, peer, sends=2)
        for state in ("queued", "dead"):
            work.step(STOP)
            work.hear(answer(transaction_of(stored, "1.1"), bad={"1.1": 0x0112}))
            assert stored.told()["1.1"][0] == state
            time.sleep(0.05)
            store(stored, "1.1")
    with stored.db.read() as connection:
        assert commitments.awaited_by(connection, stored.jobs()["1.1"].id) is None


def test_silence_is_asked_again_under_a_new_transaction_and_a_late_answer_to_the_old_one_counts(stored: Outbox) -> None:
    scp = Scp()
    with listening(scp) as peer:
        work = committer(stored, peer, answer_s=0.01, asks=2)
        for _ in range(2):
            work.step(STOP)
            time.sleep(0.02)
    first, second = (str(request.TransactionUID) for request in scp.asked)
    assert first != second
    assert "left 1 requests for commitment without an answer" in stored.jobs()["1.1"].last_error
    work.hear(answer(first, ("1.1", "1.2", "1.3")))
    assert {state for state, _ in stored.told().values()} == {"done"}
    work.hear(answer(second, bad={"1.1": 0x0112}))  # awaits nothing any more
    assert {state for state, _ in stored.told().values()} == {"done"}


def test_silence_to_every_request_stores_it_again(stored: Outbox) -> None:
    with listening(Scp()) as peer:
        work = committer(stored, peer, answer_s=0.01, asks=2)
        for _ in range(3):
            work.step(STOP)
            time.sleep(0.02)
    assert set(stored.told().values()) == {("queued", 1)}


def test_a_peer_that_is_away_is_asked_the_same_again(stored: Outbox) -> None:
    work = committer(stored, NOBODY)
    work.step(STOP)
    first = transaction_of(stored, "1.1")
    assert "nothing listens there" in stored.jobs()["1.1"].last_error
    scp = Scp()
    with listening(scp) as peer:
        time.sleep(0.05)
        committer(stored, peer).step(STOP)
    assert [str(request.TransactionUID) for request in scp.asked] == [first]


def test_a_request_over_which_the_process_was_killed_is_made_again_as_it_was(stored: Outbox) -> None:
    dead = committer(stored, NOBODY, owner="host:1:1")
    taken = commitments.take_request(stored.db, "pacs", "host:1:1", dead._transaction, 1000, time.time())
    assert len(taken) == 3
    scp = Scp()
    with listening(scp) as peer:
        work = committer(stored, peer)
        assert not work.step(STOP)
        assert commitments.release_dead_askers(stored.db, lambda owner: owner != "host:1:1", time.time()) == 3
        assert work.step(STOP)
    assert [str(request.TransactionUID) for request in scp.asked] == [taken[0].transaction_uid]


def test_a_peer_without_storage_commitment_is_a_dead_letter_that_says_what_to_set(stored: Outbox) -> None:
    entity = AE(ae_title="PACS")
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        committer(stored, replace(NOBODY, port=server.server_address[1])).step(STOP)
    finally:
        server.shutdown()
    assert set(stored.told().values()) == {("dead", 1)}
    assert "accepts none of the presentation contexts" in stored.jobs()["1.1"].last_error


def test_a_failed_answer_that_comes_before_its_request_is_noted_is_not_forgotten(stored: Outbox) -> None:
    taken = commitments.take_request(stored.db, "pacs", "me", lambda _: "2.25.1", 30, time.time())
    hear(stored.db, {"pacs": (policy_for(NOBODY), RETRY)}, answer("2.25.1", bad={"1.1": 0x0112}))
    commitments.request_taken(stored.db, "2.25.1", time.time())
    assert stored.told()["1.1"] == ("queued", 1)
    with stored.db.read() as connection:
        assert {one.sop_uid for one in commitments.overdue(connection, "pacs", time.time() + 1)} == {"1.2", "1.3"}
    assert len(taken) == 3


# --- our listening side ---


@contextmanager
def reports(hear_it: Callable[[Report], None]) -> Iterator[int]:
    listener = ReportListener("127.0.0.1", 0, {"WETREAD"}, {"PACS"}, hear_it)
    listener.start()
    try:
        yield listener.port
    finally:
        listener.stop()


def call(port: int, information: Dataset, *, calling: str = "PACS", called: str = "WETREAD", kind: int = 1) -> int | None:
    """As an SCP that brings its answer over an association of its own; None where it is not let in."""
    entity = AE(ae_title=calling)
    entity.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = entity.associate("127.0.0.1", port, ae_title=called, ext_neg=[role])
    if not association.is_established:
        return None
    try:
        return notify(association, kind, information)
    finally:
        association.release()


def test_a_report_over_a_new_association_is_heard_then_answered(stored: Outbox) -> None:
    scp = Scp()
    with listening(scp) as peer:
        work = committer(stored, peer)
        work.step(STOP)
        with reports(work.hear) as port:
            assert call(port, all_good(scp.asked[0])[1]) == 0
            assert set(stored.told().values()) == {("done", 1)}


def test_what_could_not_be_noted_is_not_acknowledged() -> None:
    def busy(_report: Report) -> None:
        raise StorageBusy("locked")

    request = Dataset()
    request.TransactionUID = "2.25.1"
    with reports(busy) as port:
        assert call(port, request) == 0x0110


def test_strangers_are_not_let_in_and_nonsense_is_refused() -> None:
    heard: list[Report] = []
    request, nameless = Dataset(), Dataset()
    nameless.FailedSOPSequence = []
    request.TransactionUID = "2.25.1"
    with reports(heard.append) as port:
        assert call(port, request, calling="OTHER") is None
        assert call(port, request, called="OTHER") is None
        assert call(port, request, kind=7) == 0x0115
        assert call(port, nameless, kind=2) == 0x0115
        assert not heard
        assert call(port, request) == 0
    assert [report.transaction_uid for report in heard] == ["2.25.1"]


def test_an_address_that_is_taken_is_told() -> None:
    with reports(lambda _: None) as port, pytest.raises(ListenError, match="change `commitment`"):
        ReportListener("127.0.0.1", port, {"WETREAD"}, {"PACS"}, lambda _: None).start()


def test_an_object_named_both_ways_has_failed() -> None:
    information = Dataset()
    information.TransactionUID = "2.25.1"
    good, bad = Dataset(), Dataset()
    good.ReferencedSOPInstanceUID = bad.ReferencedSOPInstanceUID = "1.1"
    bad.FailureReason = 0x0119
    information.ReferencedSOPSequence, information.FailedSOPSequence = [good], [bad]
    assert read_report(2, information) == Report("2.25.1", frozenset(), {"1.1": 0x0119})


def test_asking_outlives_a_fault_that_nobody_foresaw(stored: Outbox) -> None:
    """A peer of another type stands for any fault of ours in the middle of a request."""
    work, stop = committer(stored, cast(DicomPeer, None)), threading.Event()
    thread = threading.Thread(target=work.serve, args=(stop,))
    thread.start()
    end = time.monotonic() + 5
    while not transaction_of(stored, "1.1") and time.monotonic() < end:
        time.sleep(0.01)
    thread.join(0.5)
    lives = thread.is_alive()
    stop.set()
    thread.join()
    assert lives
    assert set(stored.told().values()) == {("awaiting", 1)}


def test_what_became_of_each_object_is_a_step_of_its_trace(stored: Outbox) -> None:
    """1.1 is safe, 1.2 was lost; of 1.3 nothing is said until its time is over."""
    exporter_of = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = exporter_of.InMemorySpanExporter()
    tracing.configure(exporter, b"of this node", "deliver", at_once=True)
    try:
        with listening(Scp()) as peer:
            work = committer(stored, peer, answer_s=0.01, asks=1)
            work.step(STOP)
            work.hear(answer(transaction_of(stored, "1.1"), ("1.1",), {"1.2": 0x0112}))
            time.sleep(0.02)
            work.step(STOP)
    finally:
        tracing.stop()
    spans = exporter.get_finished_spans()
    told = {(dict(span.attributes)["wetread.outcome"], span.status.is_ok, span.end_time >= span.start_time) for span in spans}
    assert {span.name for span in spans} == {"commit"}
    assert told == {("committed", True, True), ("stored again", False, True)}
    assert len({span.context.trace_id for span in spans}) == 1, "one study, one trace"
    assert len(spans) == 3
