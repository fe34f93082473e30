"""The node's DICOM port: C-ECHO and C-STORE."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from dicom_node.errors import ListenError
from dicom_node.ingest.connection import Connection
from dicom_node.ingest.door import Door, Limits
from dicom_node.ingest.identity import Passcodes, read_passcodes
from dicom_node.ingest.policy import AllowedPeer, AssociationPolicy
from dicom_node.ingest.receive import Receiver
from dicom_node.ingest.tls import TlsFiles, server_context
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore

_BACKLOG = 256  # connections waiting to be accepted; the system's default of 5 drops a modality's burst
_MAX_STRANGERS = 256  # connections without an association; one more, and the oldest is cut
_KEEPALIVE_S = 60  # of silence, then the system asks whether the peer is still there

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """How the node listens. Times in seconds, sizes in bytes.

    ``port`` 0 takes a free one. ``allowed`` empty admits nobody. ``pdu``: the largest P-DATA PDU taken; 128 KB is the
    fastest measured, larger is slower. ``watermark_bytes``: with less room on the disk, objects are refused with 0xA700.
    ``idle_timeout_s``: an association without a message for so long is aborted. ``acse_timeout_s``: the wait for an
    association request after the connection (ARTIM). ``extra_sop_classes``: private SOP classes to store too. ``tls``:
    None listens in the clear. ``passcodes``: file of users and passcodes. Not ``durable``: success is answered before the
    object is safe, for measurements and caches only.
    """

    ae_title: str = "WETREAD"
    host: str = "127.0.0.1"
    port: int = 11112
    allowed: tuple[AllowedPeer, ...] = ()
    require_called_ae: bool = True
    max_associations: int = 100
    pdu: int = 131072
    watermark_bytes: int = 2 << 30
    idle_timeout_s: float = 60.0
    acse_timeout_s: float = 30.0
    extra_sop_classes: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    passcodes: Path | None = None
    durable: bool = True


class Listener:
    """Listens from ``start`` to ``stop``. ``policy`` replaces the one made from the settings. Raises SettingsError."""

    def __init__(
        self, settings: ListenerSettings, db: Database, files: FileStore, policy: AssociationPolicy | None = None
    ) -> None:
        self._settings = settings
        made = AssociationPolicy(settings.ae_title, settings.allowed, settings.require_called_ae, settings.max_associations)
        self._door = Door(
            policy or made,
            Receiver(db, files, settings.watermark_bytes, durable=settings.durable),
            Limits(settings.pdu, settings.idle_timeout_s, settings.acse_timeout_s),
            frozenset(settings.extra_sop_classes),
            server_context(settings.tls) if settings.tls else None,
            read_passcodes(settings.passcodes) if settings.passcodes else Passcodes(),
        )
        if not settings.durable:
            _log.warning("durability is off: what is acknowledged is lost when the power or this process fails")
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """The bound port. Raises ListenError before ``start``."""
        if self._server is None:
            raise ListenError("The listener has not been started")
        return self._server.port

    @property
    def associations(self) -> int:
        """How many are open."""
        return self._door.inside

    def start(self) -> None:
        """Bind and listen; peers can connect when this returns. Raises ListenError, which names the address."""
        self._server = _Server(_bind(self._settings), self._door)
        self._server.thread.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Accept no more, let open associations finish for up to ``grace_s`` seconds, then abort them."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stop_accepting()
        deadline = time.monotonic() + grace_s
        while any(one.established for one in server.connections()) and time.monotonic() < deadline:
            time.sleep(0.02)
        server.end_all()
        self._door.receiver.close()


def _bind(settings: ListenerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ListenError(_why(settings, error)) from error


def _why(settings: ListenerSettings, error: OSError | OverflowError) -> str:
    where = f"port {settings.port} of {settings.host}"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return f"Cannot listen on {where}: another program uses it; stop that one or choose another port"
    if number == errno.EACCES:
        return f"Cannot listen on {where}: not permitted; choose a port above 1023"
    return f"Cannot listen on {where}: {error}; check the address and the port"


@dataclass
class _Server:
    """Accepts connections in a thread of its own and knows those that are open."""

    listening: socket.socket
    door: Door
    _open: set[Connection] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.port = int(self.listening.getsockname()[1])
        self.listening.setblocking(False)
        self._woken, self._waker = socket.socketpair()
        self.thread = threading.Thread(target=self._accept_all, name="dicom-listener", daemon=True)

    def connections(self) -> list[Connection]:
        with self._lock:
            self._open = {one for one in self._open if one.is_alive() or one.ident is None}
            return sorted(self._open, key=lambda one: one.began)

    def stop_accepting(self) -> None:
        self._waker.send(b"x")
        self.thread.join()
        for one in (self.listening, self._woken, self._waker):
            one.close()

    def end_all(self, patience_s: float = 5.0) -> None:
        """Abort what is open; cut what does not end within ``patience_s``."""
        for one in self.connections():
            one.stop()
        deadline = time.monotonic() + patience_s
        for one in self.connections():
            one.join(max(deadline - time.monotonic(), 0.0))
            one.cut()

    def _accept_all(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listening, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not any(key.fileobj is self._woken for key, _ in selector.select()):
                self._accept()

    def _accept(self) -> None:
        try:
            connection, address = self.listening.accept()
        except BlockingIOError:
            return
        except OSError as error:
            _log.error("a connection cannot be accepted", error=str(error))
            time.sleep(0.1)  # out of descriptors: it would come again at once
            return
        with contextlib.suppress(OSError):
            _tune(connection)
        one = Connection(connection, str(address[0]), self.door)
        with self._lock:
            self._open.add(one)
        self._cut_strangers()
        one.start()

    def _cut_strangers(self) -> None:
        strangers = [one for one in self.connections() if not one.established]
        for one in strangers[: max(len(strangers) - _MAX_STRANGERS, 0)]:
            one.cut()


def _tune(connection: socket.socket) -> None:
    connection.setblocking(True)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
