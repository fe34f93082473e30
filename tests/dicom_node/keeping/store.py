"""A store with real files and rows, made study by study in the states that retention must tell apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import record_instance
from dicom_node.storage.jobs import Job, JobKind, JobState, NewJob, bury, claim, complete, enqueue
from dicom_node.storage.results import NewDocument, NewResult, save_document, save_result
from dicom_node.storage.stored_paths import stored_documents, stored_images
from dicom_node.storage.studies import open_revision
from tests.dicom_node.storage.test_instances import FIRST

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Made:
    """One study as a test wants it; times in seconds since 1970 UTC. ``job``: None for a study that no route wants read."""

    uid: str
    received_at: float
    images: int = 2
    dirty: bool = False
    job: JobState | None = JobState.DONE
    delivery: JobState | None = None
    held: bool = False
    conflict_at: float | None = None
    document_at: float | None = None
    done_at: float = field(default=-1.0)


@dataclass(frozen=True, slots=True)
class Store:
    db: Database
    files: FileStore

    def make(self, made: Made) -> Made:
        for number in range(made.images):
            self.receive(made.uid, f"{made.uid}.{number}", made.received_at)
        if made.conflict_at is not None:
            self.receive(made.uid, f"{made.uid}.0", made.conflict_at, b"other", aside=True)
        if made.dirty:
            return made
        with self.db.write() as conn:
            open_revision(conn, made.uid)
        if made.document_at is not None:
            self.document(made)
        done_at = made.done_at if made.done_at >= 0 else made.received_at
        if made.job is not None:
            self.job(f"read:{made.uid}:1:cxr", made.uid, JobKind.READ, made.job, done_at)
        if made.delivery is not None:
            self.job(f"deliver:{made.uid}:pacs", made.uid, JobKind.DELIVER, made.delivery, done_at)
        return made

    def receive(self, study: str, sop: str, at: float, content: bytes = b"bytes", *, aside: bool = False) -> str:
        """An instance as the committer leaves it: its file at its place, then its row. ``aside``: the second of its UID."""
        arriving = self.files.arriving(b"head")
        arriving.write(content + sop.encode())
        arriving.finish(durable=False)
        with self.db.write() as conn:
            path = self.files.place_for(study, sop, int(aside), arriving)
            mine = {"sop_uid": sop, "study_uid": study, "series_uid": f"{study}.s", "path": path}
            record_instance(conn, replace(FIRST, sha256=hashlib.sha256(content).hexdigest(), **mine), at)
            arriving.move_to(path)
        return path

    def document(self, made: Made) -> None:
        at = made.document_at or 0.0
        file = self.files.write_document(f"{made.uid}.9", b"document of " + made.uid.encode())
        held = "broken" if made.held else ""
        row = NewDocument(
            f"{made.uid}.9",
            "findings-sr",
            file.path,
            made.uid,
            1,
            "cxr",
            "application/dicom",
            file.size,
            file.sha256,
            held=held,
        )
        with self.db.write() as conn:
            save_result(conn, NewResult(made.uid, 1, "cxr", "{}"), at)
            save_document(conn, row, at)

    def job(
        self, key: str, study: str, kind: JobKind, state: JobState, at: float, payload: dict[str, str] | None = None
    ) -> None:
        """Brought into its state by the calls that a worker makes."""
        with self.db.write() as conn:
            assert enqueue(conn, NewJob(kind, "read" if kind is JobKind.READ else "pacs", key, study, payload or {}), at)
        if state is JobState.QUEUED:
            return
        (job,) = [one for one in claim(self.db, kind, None, "me:1:1", 1000, 1e12, at) if one.idempotency_key == key]
        self.finish(job, state, at)

    def finish(self, job: Job, state: JobState, at: float) -> None:
        if state is JobState.DEAD:
            bury(self.db, job, "me:1:1", "given up", at)
        elif state is JobState.DONE:
            with self.db.write() as conn:
                complete(conn, job, "me:1:1", at)

    def paths(self) -> set[str]:
        """Every file of instances and documents that lies on the disk."""
        kinds = ("instances", "documents")
        found = {Path(place) / name for kind in kinds for place, _, names in os.walk(self.files.root / kind) for name in names}
        return {path.relative_to(self.files.root).as_posix() for path in found}

    def rows(self) -> set[str]:
        """Every file that a row names."""
        with self.db.read() as conn:
            return set(stored_images(conn, lambda _: True)) | set(stored_documents(conn, lambda _: True))

    def studies_with_images(self) -> set[str]:
        with self.db.read() as conn:
            return {row.study_uid for row in stored_images(conn, lambda _: True).values()}


def open_store(folder: Path, url: str | Path | None = None) -> Store:
    return Store(Database.open(url or folder / "node.sqlite"), FileStore(folder / "files"))


def all_of(store: Store, made: Sequence[Made]) -> None:
    for one in made:
        store.make(one)
