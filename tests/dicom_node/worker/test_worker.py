"""The worker against a real database and real files: all of a result is saved in one step, or nothing."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import dcmread

from dicom_node.errors import LeaseLost
from dicom_node.flow import Bounds, Prepared, ReadRequest, prepare
from dicom_node.pixels import PixelReader
from dicom_node.reading_json import from_json
from dicom_node.routing import ResultConditions, ResultRule, Routes
from dicom_node.storage.events import EventKind, Severity, list_events
from dicom_node.storage.jobs import JobKind, JobState, NewJob, claim, enqueue, list_jobs
from dicom_node.storage.results import documents_of, results_of
from dicom_node.worker.worker import READ_QUEUE
from inference.reading import UseMode
from reporting.context import Document, DocumentKind, Fault
from reporting.documents import build_documents
from tests.dicom_node.worker.one_study import Meanwhile, Node
from tests.support import GreyReader


def test_result_documents_and_deliveries_are_saved_with_the_end_of_the_job(node: Node) -> None:
    assert node.worker(GreyReader(UseMode.ASSIST)).step()
    assert node.state().state is JobState.DONE
    with node.db.read() as connection:
        (result,) = results_of(connection, node.study)
        documents = documents_of(connection, node.study)
    assert from_json(result.reading_json).assessed
    assert (result.revision, result.reading_name) == (1, "chest_xray")
    assert sorted(d.kind for d in documents) == ["draft-sr", "fhir-bundle", "findings-sr"]
    for document in documents:
        content = node.files.path(document.path).read_bytes()
        assert len(content) == document.size
        if document.media_type == "application/dicom":
            written = dcmread(BytesIO(content))
            assert (written.SOPInstanceUID, written.StudyInstanceUID) == (document.uid, node.study)
    kinds = {d.uid: d.kind for d in documents}
    queued = sorted(
        (job.queue, kinds[job.payload["document"]], job.priority) for job in list_jobs(node.db, kind=JobKind.DELIVER)
    )
    assert queued == [("pacs", "draft-sr", 0), ("pacs", "findings-sr", 0), ("record", "fhir-bundle", 0)]


def queued(node: Node) -> list[tuple[str, str]]:
    with node.db.read() as connection:
        kinds = {one.uid: one.kind for one in documents_of(connection, node.study)}
    return sorted((job.queue, kinds[job.payload["document"]]) for job in list_jobs(node.db, kind=JobKind.DELIVER))


def test_a_result_goes_where_its_rules_say_beside_its_route_and_nowhere_twice(node: Node) -> None:
    """GreyReader finds nothing sure; whatever it says, the study was assessed."""
    holds, not_ = ResultConditions(assessed=True), ResultConditions(assessed=False)
    node.routes = Routes(
        (),
        (
            ResultRule(name="more", when=holds, destinations=("unused", "pacs")),
            ResultRule(name="only drafts", when=holds, destinations=("pacs",), documents=(DocumentKind.DRAFT_SR,)),
            ResultRule(name="never", when=not_, destinations=("gone",)),
        ),
    )
    assert node.worker(GreyReader(UseMode.ASSIST)).step()
    assert queued(node) == [
        ("pacs", "draft-sr"),
        ("pacs", "findings-sr"),
        ("record", "fhir-bundle"),
        ("unused", "findings-sr"),
    ]


def test_nothing_to_do(node: Node) -> None:
    worker = node.worker(GreyReader(UseMode.ASSIST))
    assert worker.step()
    assert not worker.step()


HELD = {"shadow holds its results": UseMode.SHADOW, "research lets nothing leave": UseMode.RESEARCH}


@pytest.mark.parametrize("mode", HELD.values(), ids=HELD.keys())
def test_other_modes_than_assist_queue_no_delivery(node: Node, mode: UseMode) -> None:
    node.worker(GreyReader(mode), mode).step()
    assert node.saved() == (1, 3, 0)
    assert node.state().state is JobState.DONE


def test_a_lost_lease_saves_nothing(node: Node) -> None:
    """Another worker took the job while this one read: its documents must stand alone."""

    def taken() -> None:
        stolen = claim(node.db, JobKind.READ, READ_QUEUE, "host:2:2", 1, 60, time.time() + 3600)
        assert [job.id for job in stolen] == [node.job]

    assert node.worker(Meanwhile(taken)).step()
    assert node.saved() == (0, 0, 0)
    assert node.state().lease_owner == "host:2:2"


def test_a_failure_inside_the_transaction_leaves_nothing_half_done(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step of the transaction fails: rows written before it must go too."""

    def fail(*_: object) -> None:
        raise LeaseLost("taken")

    with monkeypatch.context() as patch:
        patch.setattr("dicom_node.worker.saving.complete", fail)
        node.worker(GreyReader(UseMode.ASSIST)).step()
    assert node.saved() == (0, 0, 0)


def test_a_second_reading_of_the_same_revision_makes_the_same_documents(node: Node) -> None:
    """A worker killed after its commit, or before: whoever reads again makes the same objects and no second delivery."""
    worker = node.worker(GreyReader(UseMode.ASSIST))
    worker.step()
    with node.db.read() as connection:
        first = {d.uid: d.sha256 for d in documents_of(connection, node.study)}
    from dicom_node.storage.jobs import rerun

    assert rerun(node.db, node.job, time.time())
    assert worker.step()
    with node.db.read() as connection:
        assert {d.uid: d.sha256 for d in documents_of(connection, node.study)} == first
    assert node.saved() == (1, 3, 3)


def test_the_lease_is_renewed_while_a_long_reading_runs(node: Node) -> None:
    leases: list[float] = []

    def long() -> None:
        end = time.monotonic() + 10
        leases.append(node.state().lease_until)
        while node.state().lease_until == leases[0] and time.monotonic() < end:
            time.sleep(0.02)
        leases.append(node.state().lease_until)

    node.worker(Meanwhile(long), lease_seconds=0.6).step()
    assert leases[1] > leases[0]
    assert node.state().state is JobState.DONE


def test_run_ends_when_told_and_has_worked(node: Node) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=node.worker(GreyReader(UseMode.ASSIST)).run, args=(stop,))
    thread.start()
    end = time.monotonic() + 30
    while node.state().state is not JobState.DONE and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert node.state().state is JobState.DONE


def test_a_document_that_breaks_a_rule_is_held_and_shown(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_bad(*args: object) -> tuple[Document, ...]:
        built = build_documents(*args)  # type: ignore[arg-type]
        bad = Fault("tid-1501-tracking", "PS3.16 TID 1501", "a finding lacks 'Tracking Identifier'")
        return tuple(replace(one, faults=(bad,)) if one.kind is DocumentKind.FINDINGS_SR else one for one in built)

    monkeypatch.setattr("dicom_node.flow.build_documents", one_bad)
    assert node.worker(GreyReader(UseMode.ASSIST)).step()
    assert node.saved() == (1, 3, 2)  # all kept, the two that are right go out
    with node.db.read() as connection:
        held = [document for document in documents_of(connection, node.study) if document.held]
        (event,) = list_events(connection, kind=EventKind.HELD_DOCUMENT)
    assert [document.kind for document in held] == ["findings-sr"]
    assert "PS3.16 TID 1501" in held[0].held
    assert (event.severity, event.sop_uid) == (Severity.ALERT, held[0].uid)
    assert "Tracking Identifier" in event.text


def test_a_revision_is_told_what_it_replaces(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def listening(request: ReadRequest, pixels: PixelReader, bounds: Bounds) -> Prepared:
        told.append(request.predecessors)
        return prepare(request, pixels, bounds)

    monkeypatch.setattr("dicom_node.worker.stages.prepare", listening)
    worker = node.worker(GreyReader(UseMode.ASSIST))
    assert worker.step()
    payload = {"reading": "chest_xray", "revision": 2, "destinations": []}
    with node.db.write() as connection:
        enqueue(connection, NewJob(JobKind.READ, READ_QUEUE, "second", node.study, payload, priority=0), time.time())
    assert worker.step()
    with node.db.read() as connection:
        first = documents_of(connection, node.study, revision=1)
    assert told[0] == ()
    wanted = {(row.kind, row.uid, row.sop_class_uid, row.series_uid) for row in first}
    assert {(one.kind, one.uid, one.sop_class_uid, one.series_instance_uid) for one in told[1]} == wanted
    assert {kind for kind, *_ in wanted} == {"findings-sr", "draft-sr", "fhir-bundle"}
