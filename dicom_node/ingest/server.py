"""Takes connections from where they come and gives each a thread; knows those that are open."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from dicom_node.ingest.connection import Connection
from dicom_node.ingest.door import Door

_MAX_STRANGERS = 256  # connections without an association; one more, and the oldest is cut
_PAUSE_S = 0.1  # without descriptors or threads: it would come again at once
_KEEPALIVE_S = 60  # of silence, then the system asks whether the peer is still there
_KEEPALIVE_EVERY_S, _KEEPALIVE_TIMES = 10, 3

_log = structlog.get_logger()


class Entrance(Protocol):
    """Where connections come from."""

    def fileno(self) -> int: ...

    def accept(self) -> tuple[socket.socket, str]:
        """A connection and the address it comes from. Raises BlockingIOError where none waits, OSError."""
        ...

    def over(self) -> None:
        """A connection that it gave has ended."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Port:
    """A listening socket."""

    listening: socket.socket

    def fileno(self) -> int:
        return self.listening.fileno()

    def accept(self) -> tuple[socket.socket, str]:
        connection, address = self.listening.accept()
        return connection, str(address[0])

    def over(self) -> None:
        """Nobody counts."""

    def close(self) -> None:
        self.listening.close()


@dataclass
class Server:
    """Serves what comes by ``entrance``, in a thread of its own, from ``start`` to ``stop``."""

    entrance: Entrance
    door: Door
    _open: set[Connection] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._woken, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._take_all, name="dicom-listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Take no more, let open associations finish for up to ``grace_s`` seconds, then abort them."""
        self._stop_taking()
        deadline = time.monotonic() + grace_s
        while any(one.established for one in self._connections()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._end_all()
        self.door.receiver.close()

    def _connections(self) -> list[Connection]:
        with self._lock:
            self._open = {one for one in self._open if one.is_alive()}
            return sorted(self._open, key=lambda one: one.began)

    def _stop_taking(self) -> None:
        self._waker.send(b"x")
        self._thread.join()
        for one in (self.entrance, self._woken, self._waker):
            one.close()

    def _end_all(self, patience_s: float = 5.0) -> None:
        """Abort what is open; cut what does not end within ``patience_s``."""
        for one in self._connections():
            one.stop()
        deadline = time.monotonic() + patience_s
        for one in self._connections():
            one.join(max(deadline - time.monotonic(), 0.0))
            one.cut()

    def _take_all(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.entrance, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not any(key.fileobj is self._woken for key, _ in selector.select()):
                self._take()

    def _take(self) -> None:
        try:
            connection, host = self.entrance.accept()
        except BlockingIOError:
            return
        except OSError as error:
            _log.error("a connection cannot be accepted", error=str(error))
            time.sleep(_PAUSE_S)
            return
        with contextlib.suppress(OSError):
            _tune(connection)
        one = Connection(connection, host, self.door, self.entrance.over)
        try:
            one.start()
        except RuntimeError as error:  # no thread to be had: this connection is lost, not the port
            _log.error("a connection was closed: it cannot be served", error=str(error))
            connection.close()
            self.entrance.over()
            time.sleep(_PAUSE_S)
            return
        with self._lock:
            self._open.add(one)
        self._cut_strangers()

    def _cut_strangers(self) -> None:
        strangers = [one for one in self._connections() if not one.established]
        for one in strangers[: max(len(strangers) - _MAX_STRANGERS, 0)]:
            one.cut()


def _tune(connection: socket.socket) -> None:
    """A peer whose cable was cut is found out within a minute and a half, whatever the idle timeout."""
    connection.setblocking(True)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wished = {"TCP_KEEPIDLE": _KEEPALIVE_S, "TCP_KEEPINTVL": _KEEPALIVE_EVERY_S, "TCP_KEEPCNT": _KEEPALIVE_TIMES}
    for name, value in wished.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
