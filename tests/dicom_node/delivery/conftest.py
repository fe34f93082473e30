"""An outbox over a real database and real files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import Job, JobKind, NewJob, enqueue, list_jobs
from dicom_node.storage.results import NewDocument, save_document


@dataclass
class Outbox:
    """Documents of one destination, "pacs"."""

    db: Database
    files: FileStore

    def put(self, *uids: str) -> None:
        for uid in uids:
            stored = self.files.write_document(uid, uid.encode())
            row = NewDocument(uid, "findings-sr", stored.path, "1.2", 1, "x", "application/dicom", stored.size, stored.sha256)
            with self.db.write() as connection:
                save_document(connection, row, time.time())
                job = NewJob(JobKind.DELIVER, "pacs", f"deliver:{uid}:pacs", "1.2", {"document": uid})
                enqueue(connection, job, time.time())

    def jobs(self) -> dict[str, Job]:
        return {str(job.payload["document"]): job for job in reversed(list_jobs(self.db, limit=1000))}

    def told(self) -> dict[str, tuple[str, int]]:
        """State and attempts of each delivery."""
        return {uid: (job.state.value, job.attempts) for uid, job in self.jobs().items()}


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    db = Database.open(tmp_path / "node.sqlite", synchronous="OFF")
    yield Outbox(db, FileStore(tmp_path))
    db.close()
