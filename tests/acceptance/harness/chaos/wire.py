"""A cable that can be cut: a TCP relay between two parties, whose behaviour changes while connections run."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Final

_CHUNK: Final = 65536
_TICK_S: Final = 0.05
# A C-STORE-RSP (command field 0x8001) in one P-DATA PDU: its Status (0000,0900), PS3.7 9.3.1.2 and E.1
_STORE_RESPONSE: Final = b"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x80"
_SUCCESS: Final = re.compile(rb"(\x00\x00\x00\x09\x02\x00\x00\x00)\x00\x00")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a cable treats what passes.

    ``open``: False cuts all connections and refuses new ones. ``silent``: connections are taken and nothing passes.
    ``bytes_per_s``: 0 for no limit. ``cut_after``: bytes towards the far side after which each connection breaks; 0 never.
    ``status``: put in place of the success of C-STORE responses; 0 leaves them.
    """

    open: bool = True
    silent: bool = False
    bytes_per_s: int = 0
    cut_after: int = 0
    status: int = 0


STRAIGHT: Final = Behaviour()


class Wire:
    """Listens on ``port`` of the loopback and relays to ``target``."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.behaviour = STRAIGHT
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._server.getsockname()[1])
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name=f"wire-{self.port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(near,), name="wire-relay", daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        with near:
            if not self.behaviour.open:
                _reset(near)
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                _reset(near)
                return
            with far, contextlib.suppress(OSError):
                self._pump(near, far)

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(10)
        forward = 0
        while not self._closing.is_set():
            now = self.behaviour
            if not now.open or (now.cut_after and forward >= now.cut_after):
                _reset(near)
                _reset(far)
                return
            if now.silent:
                time.sleep(_TICK_S)
                continue
            most = min(_CHUNK, now.cut_after or _CHUNK, max(256, int(now.bytes_per_s * _TICK_S)) if now.bytes_per_s else _CHUNK)
            for end in select.select([near, far], [], [], _TICK_S)[0]:
                data = end.recv(most)
                if not data:
                    return
                if end is far and now.status:
                    data = changed(data, now.status)
                (far if end is near else near).sendall(data)
                forward += len(data) if end is near else 0
                if now.bytes_per_s:
                    time.sleep(len(data) / now.bytes_per_s)


def changed(data: bytes, status: int) -> bytes:
    """The same bytes, with ``status`` in place of the success of a C-STORE response."""
    if _STORE_RESPONSE not in data:
        return data
    return _SUCCESS.sub(lambda found: found[1] + struct.pack("<H", status), data)


def _reset(end: socket.socket) -> None:
    """RST, as when a cable or a middlebox ends it: no orderly end reaches the other side."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
