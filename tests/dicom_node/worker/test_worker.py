"""The worker against a real database and real files: all of a result is saved in one step, or nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.errors import LeaseLost, StorageFull
from dicom_node.flow import Bounds, Prepared, ReadRequest, prepare
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.pixels import PixelReader
from dicom_node.reading_json import from_json
from dicom_node.routing import ResultConditions, ResultRule, Routes
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, Severity, list_events
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import NewInstance, instances_of, record_instance
from dicom_node.storage.jobs import Job, JobKind, JobState, NewJob, claim, enqueue, get_job, list_jobs
from dicom_node.storage.results import documents_of, results_of
from dicom_node.worker.worker import READ_QUEUE, Worker, WorkerOptions
from inference.errors import DeviceError
from inference.reading import Decision, Frame, Reading, Skipped, UseMode
from reporting.context import Document, DocumentKind, Fault
from reporting.documents import build_documents
from reporting.options import DocumentOptions
from tests.support import GreyReader

OWNER = "host:1:1"
WANTED = {"pacs": ("findings-sr", "draft-sr"), "record": ("fhir-bundle",), "unused": ("findings-sr",)}


@dataclass
class Node:
    """A node's storage with one study that waits to be read."""

    db: Database
    files: FileStore
    study: str
    job: int
    routes: Routes = field(default_factory=lambda: Routes(()))

    def worker(self, reader: GreyReader, mode: UseMode = UseMode.ASSIST, **changes: float) -> Worker:
        values: dict[str, float] = {
            "lease_seconds": 60,
            "max_attempts": 3,
            "retry_seconds": 0.0,
            "poll_seconds": 0.01,
            **changes,
        }
        options = WorkerOptions(
            mode=mode,
            wanted=WANTED,
            documents=DocumentOptions(software_version="0.1.0"),
            device_uid="2.25.1",
            station_name="WETREAD",
            institution="",
            **{**values, **changes},  # type: ignore[arg-type]
        )
        return Worker(self.db, self.files, lambda _name: reader, options, OWNER, lambda: self.routes)

    def state(self) -> Job:
        job = get_job(self.db, self.job)
        assert job is not None
        return job

    def saved(self) -> tuple[int, int, int]:
        """How many results, documents and deliveries there are."""
        with self.db.read() as connection:
            made = len(results_of(connection, self.study)), len(documents_of(connection, self.study))
        return (*made, len(list_jobs(self.db, kind=JobKind.DELIVER)))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    db = Database.open(tmp_path / "node.sqlite", synchronous="OFF")
    files = FileStore(tmp_path)
    film = phantom_dx(1, [], size=64)
    buffer = BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    stored = files.write_document("film", buffer.getvalue())
    study = str(film.StudyInstanceUID)
    payload = {"reading": "chest_xray", "revision": 1, "destinations": ["pacs", "record"]}
    with db.write() as connection:
        record_instance(
            connection,
            NewInstance(
                sop_uid=str(film.SOPInstanceUID),
                sop_class_uid=str(film.SOPClassUID),
                series_uid=str(film.SeriesInstanceUID),
                study_uid=study,
                transfer_syntax=str(film.file_meta.TransferSyntaxUID),
                path=stored.path,
                size=stored.size,
                sha256=stored.sha256,
                patient_digest="0",
            ),
            time.time(),
        )
        enqueue(connection, NewJob(JobKind.READ, READ_QUEUE, f"read:{study}:1", study, payload, priority=0), time.time())
    (job,) = list_jobs(db)
    yield Node(db, files, study, job.id)
    db.close()


class Failing(GreyReader):
    """Fails as told, a number of times."""

    def __init__(self, error: Exception, times: int = 1000) -> None:
        super().__init__(UseMode.ASSIST)
        self.error, self.left = error, times

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return super().read(frames, skipped)


class Meanwhile(GreyReader):
    """Something happens while the study is being read."""

    def __init__(self, event: Callable[[], None]) -> None:
        super().__init__(UseMode.ASSIST)
        self._event = event

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading:
        self._event()
        return super().read(frames, skipped)


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


def test_a_study_whose_files_are_gone_is_not_lost(node: Node) -> None:
    for path in (node.files.root / "documents").rglob("*.dcm"):
        path.unlink()
    worker = node.worker(GreyReader(UseMode.ASSIST), max_attempts=1)
    for _ in range(2):
        worker.step()
    assert node.state().state is JobState.DEAD
    assert node.state().last_error


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
