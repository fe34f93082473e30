"""Removing what is old: rows first, then files. A purge that is killed at any instant is finished by the next one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from dicom_node.keeping.rules import NEVER, Cutoffs, Fill
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.noted_files import hold_noted_files, studies_with_noted_files
from dicom_node.storage.old_rows import any_old_events, any_old_jobs, remove_events, remove_jobs
from dicom_node.storage.paths import sync_folder, translated
from dicom_node.storage.retention import (
    Removed,
    hold_if_removable,
    removable_studies,
    remove_documents,
    remove_images,
    studies_with_old_documents,
)

_STUDIES_AT_ONCE: Final = 50
_FILES_AT_ONCE: Final = 200  # of one transaction, during which a SQLite database takes no other
_ROWS_AT_ONCE: Final = 2000
_log = structlog.get_logger()


class Witness(Protocol):
    """Told of every removal, in its transaction: the audit trail."""

    def removed(self, connection: Any, study_uid: str, what: str, uids: tuple[str, ...], now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Purged:
    """What one run removed. ``studies``: whose images went."""

    studies: int = 0
    images: Removed = field(default_factory=Removed)
    documents: Removed = field(default_factory=Removed)
    jobs: int = 0
    events: int = 0

    def __add__(self, other: Purged) -> Purged:
        return Purged(
            self.studies + other.studies,
            self.images + other.images,
            self.documents + other.documents,
            self.jobs + other.jobs,
            self.events + other.events,
        )

    @property
    def rows(self) -> int:
        return self.images.count + self.documents.count + self.jobs + self.events

    @property
    def anything(self) -> bool:
        return bool(self.studies or self.rows)


class Purger:
    """Removes by age, and by need when the disk fills. ``witness``: None where no audit trail is kept.

    ``first`` is called before anything is removed: the audit trail must have told of images before their rows go.
    """

    def __init__(
        self, db: Database, files: FileStore, witness: Witness | None = None, first: Callable[[], object] = lambda: None
    ) -> None:
        self._db, self._files, self._witness, self._first = db, files, witness, first

    def by_age(self, old: Cutoffs, now: float, stop: threading.Event | None = None) -> Purged:
        """Everything that is old enough, until ``stop`` is set. Raises StorageError, StorageBusy."""
        done = Purged()
        self._first()
        self.finish(stop)
        steps = (self._images_step, self._documents_step, self._jobs_step, self._events_step)
        for step in steps:
            while not _set(stop) and (more := step(old, now)).anything:
                done += more
        return done

    def by_need(self, full: Callable[[], Fill], old: Cutoffs, now: float, stop: threading.Event | None = None) -> Purged:
        """Images, the oldest first, while it is fuller than the low watermark. Raises StorageError, StorageBusy."""
        done = Purged()
        self._first()
        urgent = replace(old, images=old.emergency)
        while not _set(stop) and full().used >= full().low and (more := self._images_step(urgent, now, 5)).anything:
            done += more
        return done

    def finish(self, stop: threading.Event | None = None) -> int:
        """Delete files that a purge has noted and not yet deleted; how many."""
        count = 0
        while not _set(stop):
            with self._db.read() as conn:
                studies = studies_with_noted_files(conn, _STUDIES_AT_ONCE)
            deleted = [self._delete_files(study_uid) for study_uid in studies]
            count += sum(deleted)
            if not any(deleted):
                break
        return count

    def _images_step(self, old: Cutoffs, now: float, limit: int = _STUDIES_AT_ONCE) -> Purged:
        if old.images == NEVER:
            return Purged()
        with self._db.read() as conn:
            found = removable_studies(conn, old.images, old.conflicts, limit)
        done = Purged()
        for study in found:
            done += self._remove_images(study.study_uid, old, now)
            while self._delete_files(study.study_uid):
                pass
        return done

    def _remove_images(self, study_uid: str, old: Cutoffs, now: float) -> Purged:
        with self._db.write() as conn:
            if not hold_if_removable(conn, study_uid, old.images, old.conflicts):
                return Purged()
            if self._witness is not None:
                self._witness.removed(conn, study_uid, "study", (), now)
            removed = remove_images(conn, study_uid, now)
        _log.info("images removed by retention", study_uid=study_uid, count=removed.count)
        return Purged(studies=1, images=removed)

    def _documents_step(self, old: Cutoffs, now: float) -> Purged:
        if old.documents == NEVER:
            return Purged()
        with self._db.read() as conn:
            found = studies_with_old_documents(conn, old.documents, _STUDIES_AT_ONCE)
        done = Purged()
        for study_uid in found:
            with self._db.write() as conn:
                removed, uids = remove_documents(conn, study_uid, old.documents, now)
                if uids and self._witness is not None:
                    self._witness.removed(conn, study_uid, "documents", uids, now)
            done += Purged(documents=removed)
            while self._delete_files(study_uid):
                pass
        return done

    def _jobs_step(self, old: Cutoffs, _now: float) -> Purged:
        if old.jobs == NEVER or not self._any(any_old_jobs, old.jobs):
            return Purged()
        with self._db.write() as conn:
            return Purged(jobs=remove_jobs(conn, old.jobs, _ROWS_AT_ONCE))

    def _events_step(self, old: Cutoffs, _now: float) -> Purged:
        if old.events == NEVER or not self._any(any_old_events, old.events):
            return Purged()
        with self._db.write() as conn:
            return Purged(events=remove_events(conn, old.events, _ROWS_AT_ONCE))

    def _any(self, are_there: Callable[[Any, float], bool], before: float) -> bool:
        with self._db.read() as conn:
            return are_there(conn, before)

    def _delete_files(self, study_uid: str) -> int:
        """Inside the transaction that takes them off the notes: killed before it ends, they are deleted once more."""
        with self._db.write() as conn:
            paths = [self._files.path(one) for one in hold_noted_files(conn, study_uid, _FILES_AT_ONCE)]
            for path in paths:
                with translated(path):
                    path.unlink(missing_ok=True)
            for folder in {path.parent for path in paths}:
                self._tidy(folder)
        return len(paths)

    def _tidy(self, folder: Path) -> None:
        """A study's own folder goes with its last file; one that documents share may be about to get another."""
        if folder.parent.parent == self._files.root / "instances":
            with contextlib.suppress(OSError):  # other files lie there still
                folder.rmdir()
                folder = folder.parent
        with translated(folder), contextlib.suppress(FileNotFoundError):  # a purge that was killed had come further
            sync_folder(folder)


def _set(stop: threading.Event | None) -> bool:
    return stop is not None and stop.is_set()
