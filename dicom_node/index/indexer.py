"""Keeping the index: a study is entered when nothing of it has come for some seconds, and again when there is more of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from dicom_node.errors import StorageError, describe
from dicom_node.index.entries import Entered, entered_of, entries_of
from dicom_node.index.headers import Attributes, Described
from dicom_node.index.headers import describe as describe_file
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.index import indexed, put, sources, stale

_QUIET_S: Final = 2.0  # a study under transfer is not entered again for each image
_LOOK_BACK_S: Final = 900.0  # clocks of several machines differ, and transactions take their time
_log = structlog.get_logger()


class Unreadable(Exception):  # noqa: N818
    """A file cannot be opened at the moment; the other studies are entered."""


class Indexer:
    """Enters what is new; after its start, everything that is not there yet."""

    def __init__(
        self, db: Database, files: FileStore, clock: Callable[[], float] = time.time, quiet_s: float = _QUIET_S
    ) -> None:
        self._db, self._files, self._clock, self._quiet_s = db, files, clock, quiet_s
        self._since = 0.0

    def run(self, stop: threading.Event, poll_s: float) -> None:
        """Until ``stop`` is set; a database that cannot be reached is waited for."""
        while not stop.wait(poll_s):
            try:
                self.step(stop)
            except StorageError as error:
                _log.warning("the index for queries waits for the database", error=str(error))
            except Exception as error:  # noqa: BLE001  the next studies must be entered
                _log.error("the index for queries is not kept", error=describe(error))

    def step(self, stop: threading.Event | None = None) -> int:
        """Enter what is due; how many studies."""
        now = self._clock()
        with self._db.read() as conn:
            waiting = stale(conn, self._since, now - self._quiet_s)
        entered = 0
        for study_uid, covered in waiting:
            if stop is not None and stop.is_set():
                return entered
            entered += self._entered(study_uid, covered)
        self._since = max(now - _LOOK_BACK_S, 0.0)
        return entered

    def _entered(self, study_uid: str, covered: str) -> bool:
        try:
            return self._enter(study_uid, covered)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001  the next study must be entered
            _log.error("a study cannot be entered into the index for queries", study_uid=study_uid, error=describe(error))
            return False

    def _described(self, relative: str) -> Described | None:
        """Raises Unreadable for a file that may be readable later: a study without it would count as whole."""
        try:
            return describe_file(self._files.path(relative))
        except StorageError as error:
            raise Unreadable(str(error)) from error

    def _enter(self, study_uid: str, covered: str) -> bool:
        with self._db.read() as conn:
            wanted, (own, known) = sources(conn, study_uid), indexed(conn, study_uid)
        study: Attributes = json.loads(own) if own else {}
        entered: list[Entered] = []
        for source in wanted:
            held = known.get(source.sop_uid)
            if held is not None and held.entry.path == source.path:
                entered.append(Entered(held.entry, json.loads(held.series)))
                continue
            read = self._described(source.path)
            if read is not None:
                study = study or read.study
                entered.append(entered_of(study_uid, source, read))
        if not entered:
            return False
        entries = entries_of(study_uid, covered, study, entered)
        with self._db.write() as conn:
            put(conn, *entries)
        return True
