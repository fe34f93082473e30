"""Studies that wait to be read, over a real database and real files; only the models are stood in for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

from dicom_node.phantom_dicom import phantom_dx
from dicom_node.reading_json import from_json
from dicom_node.routing import Routes
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.jobs import Job, JobKind, NewJob, enqueue, list_jobs
from dicom_node.storage.results import DocumentRow, documents_of, results_of
from dicom_node.worker.worker import READ_QUEUE, Worker, WorkerOptions
from inference.reading import DraftReport, Reading, UseMode
from inference.stages import DRAFT_FOLLOWS, Study, Triaged
from reporting.context import DocumentKind
from reporting.options import DocumentOptions
from tests.support import GreyReader

WANTED = {
    "pacs": ("findings-sr", "draft-sr"),
    "record": ("fhir-bundle",),
    "interface": ("hl7-oru",),
}
KINDS = frozenset(map(DocumentKind, (kind for kinds in WANTED.values() for kind in kinds)))


class DraftingReader(GreyReader):
    """As the engine: findings from ``triage``, drafts from ``finish``. Of half the films a STAT finding is positive.

    ``batches``: how many studies each pass had. ``on_triage``, ``on_finish``: called first, with the studies' images.
    """

    def __init__(self) -> None:
        super().__init__(UseMode.ASSIST)
        self.batches: list[tuple[str, int]] = []
        self.on_triage: Callable[[Sequence[Study]], None] = lambda _: None
        self.on_finish: Callable[[Sequence[Triaged]], None] = lambda _: None

    def triage(self, studies: Sequence[Study]) -> list[Triaged]:
        self.on_triage(studies)
        self.batches.append(("triage", len(studies)))
        return [self._pending(study) for study in studies]

    def finish(self, triaged: Sequence[Triaged]) -> list[Reading]:
        self.on_finish(triaged)
        self.batches.append(("finish", len(triaged)))
        return [replace(one.reading, draft=super(DraftingReader, self).read(one.frames).draft) for one in triaged]

    def _pending(self, study: Study) -> Triaged:
        reading = super().read(study.frames, study.skipped)
        draft = DraftReport((), DRAFT_FOLLOWS, pending=True) if reading.assessed else reading.draft
        return Triaged(replace(reading, draft=draft), study.frames)


def images_of(given: Sequence[Study] | Sequence[Triaged]) -> list[str]:
    return [one.frames[0].source.sop_instance_uid for one in given if one.frames]


@dataclass
class Site:
    """A node's storage. ``options``: what the worker is told otherwise than usual."""

    db: Database
    files: FileStore
    options: dict[str, Any] = field(default_factory=dict)

    def add(
        self, seed: int, priority: int = 20, *, study: str = "", revision: int = 1, at: float | None = None, images: int = 1
    ) -> str:
        """A study of drawn films and its reading; the Study Instance UID."""
        films = [phantom_dx(seed, [], size=64, study_uid=study or None, instance_number=n + 1) for n in range(images)]
        uid = study or str(films[0].StudyInstanceUID)
        for film in films if revision == 1 else ():
            film.StudyInstanceUID = uid
            self._record(film, uid)
        payload = {"reading": "grey", "revision": revision, "destinations": list(WANTED)}
        with self.db.write() as connection:
            key = f"read:{uid}:{revision}:grey"
            enqueue(connection, NewJob(JobKind.READ, READ_QUEUE, key, uid, payload, priority), at or time.time())
        return uid

    def _record(self, film: Any, study: str) -> None:
        buffer = BytesIO()
        film.save_as(buffer, enforce_file_format=True)
        stored = self.files.write_document(f"{film.SOPInstanceUID}", buffer.getvalue())
        uids = (film.SOPInstanceUID, film.SOPClassUID, film.SeriesInstanceUID, study, film.file_meta.TransferSyntaxUID)
        with self.db.write() as connection:
            row = NewInstance(*map(str, uids), stored.path, stored.size, stored.sha256, "0")
            record_instance(connection, row, time.time())

    def worker(self, reader: Any, owner: str = "host:1:1", *, watched: bool = False, **changes: Any) -> Worker:
        usual: dict[str, Any] = {"lease_seconds": 60, "max_attempts": 3, "retry_seconds": 0.0, "poll_seconds": 0.01}
        options = WorkerOptions(
            mode=UseMode.ASSIST,
            wanted=WANTED,
            documents=DocumentOptions(software_version="0.1.0", kinds=KINDS),
            device_uid="2.25.1",
            station_name="WETREAD",
            institution="",
            **{**usual, **self.options, **changes},
        )
        return Worker(self.db, self.files, lambda _: reader, options, owner, lambda: Routes(()), watched=watched)

    def read_all(self, reader: Any, **changes: Any) -> None:
        worker = self.worker(reader, **changes)
        while worker.step():
            pass

    def job(self, study: str, revision: int = 1) -> Job:
        jobs = list_jobs(self.db, kind=JobKind.READ, study_uid=study)
        (found,) = [job for job in jobs if job.payload["revision"] == revision]
        return found

    def reading(self, study: str) -> Reading:
        """Of the newest revision."""
        with self.db.read() as connection:
            return from_json(results_of(connection, study)[0].reading_json)

    def documents(self, study: str) -> dict[str, DocumentRow]:
        """By kind; a message that was sent before its draft is "first" of its kind."""
        with self.db.read() as connection:
            rows = documents_of(connection, study)
        return {("first " if row.uid.endswith(".1") and row.uid.startswith("2.25.") else "") + row.kind: row for row in rows}

    def content(self, row: DocumentRow) -> bytes:
        return self.files.path(row.path).read_bytes()

    def delivered(self, study: str) -> list[tuple[str, str]]:
        """(destination, document UID) of each delivery."""
        jobs = list_jobs(self.db, kind=JobKind.DELIVER, study_uid=study)
        return sorted((job.queue, str(job.payload["document"])) for job in jobs)
