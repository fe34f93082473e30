"""Watch, collect, table and sheet over the real worker, storage, documents and delivery; only the models are stood in for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from rich.console import Console

from dicom_node.delivery import sending
from dicom_node.delivery.deliverer import Deliverer
from dicom_node.delivery.destination import Destination, one_by_one
from dicom_node.delivery.retry import RetryPolicy
from dicom_node.demo.collect import WANTED, collect
from dicom_node.demo.display import progress
from dicom_node.demo.sheet import draw_sheet
from dicom_node.demo.studies import DemoStudy, write_studies
from dicom_node.demo.summary import print_summary
from dicom_node.demo.watch import Seen, Stage, failed_attempts, look
from dicom_node.errors import PeerRefused, PeerUnavailable, StorageError
from dicom_node.ingest.assembly import Assembler, Plan, QuietTime
from dicom_node.routing import Routes
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.jobs import JobKind, claim
from dicom_node.storage.results import DocumentRow
from dicom_node.worker.worker import Worker, WorkerOptions
from inference.reading import UseMode
from reporting.options import DocumentOptions
from tests.support import GreyReader

KINDS = tuple(kind.value for kind in WANTED)


@dataclass
class Bench:
    """A node's storage with the demo's studies received, its worker and its delivery, driven by hand."""

    db: Database
    files: FileStore
    studies: tuple[DemoStudy, ...]
    delivered: Path

    def receive(self, study: DemoStudy, count: int | None = None) -> None:
        for path in study.files[:count]:
            ds = dcmread(path, stop_before_pixels=True)
            spool = self.files.spool(b"")
            spool.write(path.read_bytes())
            stored = spool.keep(study.study_uid, ds.SOPInstanceUID)
            uids = (ds.SOPInstanceUID, ds.SOPClassUID, ds.SeriesInstanceUID, study.study_uid, "1.2.840.10008.1.2.1")
            row = NewInstance(*map(str, uids), stored.path, stored.size, stored.sha256, "", modality=str(ds.Modality))
            with self.db.write() as conn:
                record_instance(conn, row, time.time())

    def plan(self) -> None:
        Assembler(self.db, QuietTime(0), lambda *_: Plan("grey", destinations=("results",))).settle(time.time())

    def read(self) -> None:
        options = WorkerOptions(
            mode=UseMode.ASSIST,
            wanted={"results": KINDS},
            documents=DocumentOptions("1", kinds=frozenset(WANTED)),
            device_uid="2.25.9",
            station_name="TEST",
            institution="",
            lease_seconds=60,
            max_attempts=1,
            retry_seconds=1,
            poll_seconds=1,
        )
        worker = Worker(self.db, self.files, lambda _: GreyReader(UseMode.ASSIST), options, "me", lambda: Routes(()))
        while worker.step():
            pass

    def deliver(self, most: int = 99, error: Exception | None = None) -> None:
        def send(document: DocumentRow, content: bytes) -> str:
            if error is not None:
                raise error
            return sending.to_folder(self.delivered, document, content)

        deliverer = Deliverer(self.db, self.files, {"results": Destination(one_by_one(send))}, RetryPolicy(), "me")
        for _ in range(most):
            if not deliverer.step("results"):
                return


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoStudy, ...]:
    return write_studies(tmp_path_factory.mktemp("demo") / "films")


@pytest.fixture
def bench(tmp_path: Path, studies: tuple[DemoStudy, ...]) -> Iterator[Bench]:
    with closing(Database.open(tmp_path / "wetread.sqlite")) as db:
        yield Bench(db, FileStore(tmp_path), studies, tmp_path / "delivered")


def test_the_stages_of_a_study(bench: Bench) -> None:
    film = bench.studies[0]
    assert look(bench.db, film).stage is Stage.WAITING
    bench.receive(film)
    assert look(bench.db, film).words == "received (1 image)"
    bench.plan()
    assert look(bench.db, film).stage is Stage.RECEIVED
    claim(bench.db, JobKind.READ, None, "me", 1, -1, time.time())
    assert look(bench.db, film).stage is Stage.READING
    bench.read()
    assert look(bench.db, film).words == "delivering 0 of 4"
    bench.deliver(most=1)
    assert look(bench.db, film).words == "delivering 1 of 4"
    assert not look(bench.db, film).ended
    bench.deliver()
    assert look(bench.db, film) == Seen(Stage.DELIVERED, 1, 4, 4)
    assert look(bench.db, film).ended


def test_a_series_that_is_still_arriving_is_not_done(bench: Bench) -> None:
    series = bench.studies[2]
    bench.receive(series, count=2)
    for step in (bench.plan, bench.read, bench.deliver):
        step()
    assert not look(bench.db, series).ended


def test_a_dead_delivery_fails_with_its_reason(bench: Bench) -> None:
    film = bench.studies[0]
    bench.receive(film)
    bench.plan()
    bench.read()
    bench.deliver(most=1, error=PeerRefused("the folder is on fire"))
    seen = look(bench.db, film)
    assert seen.stage is Stage.FAILED
    assert "the folder is on fire" in seen.words


def test_what_is_tried_again_is_told(bench: Bench) -> None:
    bench.receive(bench.studies[0])
    bench.plan()
    bench.read()
    bench.deliver(most=1, error=PeerUnavailable("the folder is away"))
    (line,) = failed_attempts(bench.db, bench.studies)
    assert "the folder is away" in line
    assert "after 1 attempts" in line


@pytest.fixture
def done(bench: Bench) -> Bench:
    for study in bench.studies:
        bench.receive(study)
    bench.plan()
    bench.read()
    bench.deliver()
    return bench


def test_collect_lays_out_what_was_delivered(done: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    came = collect(done.db, done.delivered, out, done.studies[0])
    assert came.faults == ()
    assert sorted(path.name for path in came.files) == [
        "1-stat-film.draft-sr.dcm", "1-stat-film.draft-sr.txt", "1-stat-film.fhir-bundle.json",
        "1-stat-film.findings-sr.dcm", "1-stat-film.findings-sr.txt", "1-stat-film.pdf.dcm", "1-stat-film.pdf.pdf",
    ]  # fmt: skip
    assert (out / "1-stat-film.pdf.pdf").read_bytes().startswith(b"%PDF-")
    findings = dcmread(out / "1-stat-film.findings-sr.dcm")
    assert findings.Modality == "SR"
    assert findings.StudyInstanceUID == done.studies[0].study_uid
    assert "Pneumothorax" in (out / "1-stat-film.findings-sr.txt").read_text("utf-8")
    text = (out / "1-stat-film.fhir-bundle.json").read_text("utf-8")
    assert json.loads(text)["resourceType"] == "Bundle"
    assert len(text.splitlines()) > 50
    assert 0 <= came.latency_s < 60


@pytest.mark.parametrize("spoiled", ["removed", "cut"])
def test_collect_notices_a_document_that_did_not_arrive_whole(done: Bench, tmp_path: Path, spoiled: str) -> None:
    file = next(done.delivered.glob("draft-sr-*"))
    if spoiled == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    else:
        file.unlink()
    came = [collect(done.db, done.delivered, tmp_path, study) for study in done.studies]
    assert sorted(one.faults for one in came) == [(), (), ("its draft-sr was not delivered whole, once",)]


def test_collect_of_a_study_without_a_result(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no result"):
        collect(bench.db, bench.delivered, tmp_path, bench.studies[0])


def test_table_and_sheet_tell_each_study_and_the_warning(done: Bench, tmp_path: Path) -> None:
    came = [collect(done.db, done.delivered, tmp_path, study) for study in done.studies]
    out = StringIO()
    print_summary(Console(file=out, width=140), came)
    text = out.getvalue()
    assert "not assessable" in text
    assert "Mean grey" in text
    assert "AI draft, not a diagnosis" in text
    assert "phantom – not for patients" in text
    draw_sheet(tmp_path / "sheet.png", came)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[1] == 1600
    rows = np.array_split(pixels[132:-56], 3)
    assert all(row.std() > 20 for row in rows), "a row of the sheet is empty"


def test_the_sheet_survives_long_and_foreign_texts(done: Bench, tmp_path: Path) -> None:
    came = collect(done.db, done.delivered, tmp_path, done.studies[0])
    finding = came.reading.findings[0]
    odd = replace(finding, code=replace(finding.code, meaning="肺 " + "very long name " * 9))
    draw_sheet(tmp_path / "sheet.png", [replace(came, reading=replace(came.reading, findings=(odd,) * 30))])
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_without_a_terminal_each_change_is_one_plain_line(studies: tuple[DemoStudy, ...]) -> None:
    film, other, _ = studies
    out = StringIO()
    with progress(Console(file=out, force_terminal=False)) as show:
        for stage in (Stage.WAITING, Stage.RECEIVED, Stage.RECEIVED, Stage.READING):
            show({film: Seen(stage, 1), other: Seen(Stage.WAITING)})
    assert out.getvalue().splitlines() == [
        "  Chest film marked STAT: received (1 image)",
        "  Chest film marked STAT: reading",
    ]


def test_on_a_terminal_the_newest_progress_is_drawn(studies: tuple[DemoStudy, ...]) -> None:
    out = StringIO()
    with progress(Console(file=out, force_terminal=True, width=100)) as show:
        show({studies[0]: Seen(Stage.DELIVERING, 1, 1, 3), studies[1]: Seen(Stage.FAILED, error="no [room]")})
    assert "delivering 1 of 3" in out.getvalue()
    assert "FAILED: no [room]" in out.getvalue()
