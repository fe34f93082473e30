"""Wake-ups: who waits for work learns within milliseconds that some was committed, also in another process.

On PostgreSQL NOTIFY carries them; for SQLite each topic is a file whose time is looked at. They only save waiting: one that
is lost, or a database that cannot tell, costs no more than the caller's own wait, after which it looks anyway.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from dicom_node.storage.folder_watch import Wait, folder_changes

READ_TOPIC: Final = "read"
_CHANNEL: Final = "wetread"
_SLICE_S: Final = 0.25  # how long a waiter may overlook that it is to stop
_AGAIN_S: Final = 2.0
_RINGS: Final = "wetread_rings"


def delivery_topic(queue: str) -> str:
    """The topic of a destination's deliveries."""
    return f"deliver-{queue}"


def announce(conn: Connection, topic: str) -> None:
    """Ring ``topic`` when the caller's transaction is committed."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_notify(:channel, :topic)"), {"channel": _CHANNEL, "topic": topic})
    else:
        conn.info.setdefault(_RINGS, set()).add(topic)


def taken_rings(conn: Connection) -> set[str]:
    """What was announced on this connection since the last call, to be rung by ``Bells.ring``."""
    rings: set[str] = conn.info.pop(_RINGS, set())
    return rings


class Bell:
    """One topic. Take ``rung`` before looking for work, and wait with it afterwards: no ring between is missed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.rung = 0

    def ring(self) -> None:
        with self._changed:
            self.rung += 1
            self._changed.notify_all()

    def wait(self, seen: int, seconds: float, stop: threading.Event) -> None:
        """Return when it was rung since ``rung`` was ``seen``, when ``stop`` is set, or after ``seconds``."""
        end = time.monotonic() + seconds
        with self._changed:
            while self.rung == seen and not stop.is_set() and (left := end - time.monotonic()) > 0:
                self._changed.wait(min(left, _SLICE_S))


class Bells(ABC):
    """All topics that somebody of this process waits for; one thread listens for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: dict[str, Bell] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def bell(self, topic: str) -> Bell:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="bells", daemon=True)
                self._thread.start()
            return self._bells.setdefault(topic, Bell())

    @abstractmethod
    def ring(self, topic: str) -> None:
        """Tell every process that waits for ``topic``."""

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    @abstractmethod
    def _listen(self) -> None: ...

    def _ring_all(self) -> None:
        for bell in self._known().values():
            bell.ring()

    def _known(self) -> dict[str, Bell]:
        with self._lock:
            return dict(self._bells)


class FileBells(Bells):
    """For SQLite, whose processes share one machine: a file for each topic beside the database."""

    def __init__(self, folder: Path, changes: Callable[[Path], AbstractContextManager[Wait]] = folder_changes) -> None:
        super().__init__()
        self._folder, self._changes = folder, changes

    def ring(self, topic: str) -> None:
        path = self._folder / topic
        with suppress(OSError):  # no room for a file: polling finds the work
            try:
                os.utime(path)
            except FileNotFoundError:
                self._folder.mkdir(exist_ok=True)
                path.touch()

    def _listen(self) -> None:
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
        seen: dict[str, int] = {}
        with self._changes(self._folder) as wait:
            while not self._closing.is_set():
                for topic, bell in self._known().items():
                    changed = self._changed_at(topic)
                    if seen.setdefault(topic, changed) != changed:
                        seen[topic] = changed
                        bell.ring()
                wait()

    def _changed_at(self, topic: str) -> int:
        try:
            return os.stat(f"{self._folder}/{topic}").st_mtime_ns  # noqa: PTH116 - fifty times a second
        except OSError:
            return 0


class NotifyBells(Bells):
    """For PostgreSQL: one connection of its own, LISTENing. ``conninfo``: libpq keywords and values."""

    def __init__(self, conninfo: dict[str, object]) -> None:
        super().__init__()
        self._conninfo = conninfo

    def ring(self, topic: str) -> None:
        """The transaction that announced it has."""

    def _listen(self) -> None:
        import psycopg

        while not self._closing.is_set():
            with suppress(psycopg.Error), psycopg.connect(**self._conninfo, autocommit=True) as conn:  # type: ignore[arg-type]
                conn.execute(f"LISTEN {_CHANNEL}")
                self._ring_all()  # whatever was announced while nobody listened
                self._hear(conn)
            self._closing.wait(_AGAIN_S)

    def _hear(self, conn: object) -> None:
        while not self._closing.is_set():
            for told in conn.notifies(timeout=1.0):  # type: ignore[attr-defined]
                bell = self._known().get(told.payload)
                if bell is not None:
                    bell.ring()
