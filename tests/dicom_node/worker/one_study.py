"""One study that waits to be read, and readers that fail or are disturbed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from dicom_node.phantom_dicom import phantom_dx
from dicom_node.routing import Routes
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.jobs import Job, JobKind, NewJob, enqueue, get_job, list_jobs
from dicom_node.storage.results import documents_of, results_of
from dicom_node.worker.worker import READ_QUEUE, Worker, WorkerOptions
from inference.reading import Frame, Reading, Skipped, UseMode
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


@contextmanager
def one_study(folder: Path) -> Iterator[Node]:
    db = Database.open(folder / "node.sqlite", synchronous="OFF")
    files = FileStore(folder)
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
