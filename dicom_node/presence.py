"""A process says that it lives, what it is doing, and what it has counted: every few seconds, to the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import structlog

from dicom_node.errors import StorageError, describe
from dicom_node.measures import OWN, Measures
from dicom_node.storage import measures as kept
from dicom_node.storage import nodes
from dicom_node.storage.database import Database
from dicom_node.storage.nodes import NodeRow
from dicom_node.storage.owner import current_owner, host_name
from dicom_node.version import software_version

BEAT_S: Final = 5.0
_FORGOTTEN_S: Final = 7 * 86400.0  # after which a process that ended without a word is missed no more
_COUNTS_ROWS: Final = "deliver"  # the role whose processes also count what only rows tell
_log = structlog.get_logger()

Look = Callable[[], None]  # sets gauges of this process


class Presence:
    """One process. ``role``: listen, work, deliver or web. ``look`` is called before each beat."""

    def __init__(self, db: Database, role: str, state: str, look: Look | None = None, counted: Measures = OWN) -> None:
        now = db.now()
        self._db, self._look, self._counted = db, look, counted
        self._row = NodeRow(current_owner(role), host_name(), role, software_version()[:32], now, now, state)
        self._told = threading.Event()

    def tell(self, state: str) -> None:
        """What the process is doing now: at once, not with the next beat."""
        self._row = replace(self._row, state=state[:200])
        self._told.set()

    def beat(self) -> None:
        """Raises StorageError; what was counted then goes with the next beat."""
        self._gauge()
        now, owner = self._db.now(), self._row.owner
        deltas = self._counted.take()
        try:
            with self._db.write() as conn:
                nodes.heartbeat(conn, replace(self._row, seen_at=now))
                kept.add_measures(conn, deltas)
                kept.set_gauges(conn, owner, self._counted.gauges(), now)
        except BaseException:
            self._counted.give_back(deltas)
            raise
        if self._row.role == _COUNTS_ROWS:
            kept.fold(self._db, now)

    def _gauge(self) -> None:
        """Whatever a device tells of itself, the process lives and says so."""
        try:
            if self._look is not None:
                self._look()
        except Exception as error:  # noqa: BLE001
            _log.error("a process could not look at itself", error=describe(error))

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; what the database cannot take now is told later."""
        while not stop.is_set():
            self._told.clear()
            try:
                self.beat()
            except StorageError as error:
                _log.warning("this process cannot tell that it lives", error=str(error))
            end = time.monotonic() + BEAT_S
            while not stop.is_set() and not self._told.wait(0.25) and time.monotonic() < end:
                pass

    def leave(self) -> None:
        """A clean end: nobody need miss this process. Raises StorageError."""
        with self._db.write() as conn:
            kept.add_measures(conn, self._counted.take())
            nodes.remove(conn, self._row.owner)
            nodes.forget(conn, self._db.now() - _FORGOTTEN_S)


@contextmanager
def keep(db: Database, role: str, state: str = "ready", look: Look | None = None) -> Iterator[Presence]:
    """Beat while the body runs. The process's row is gone after a clean end."""
    here, stop = Presence(db, role, state, look), threading.Event()
    thread = threading.Thread(target=here.run, args=(stop,), name="presence", daemon=True)
    thread.start()
    try:
        yield here
    finally:
        stop.set()
        thread.join(timeout=BEAT_S)
        try:
            here.leave()
        except StorageError as error:
            _log.warning("this process could not say that it ends", error=str(error))
