"""The node's DICOM port: C-ECHO and C-STORE."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import structlog

from dicom_node.errors import ListenError
from dicom_node.ingest.committer import Turn
from dicom_node.ingest.contexts import ANY
from dicom_node.ingest.counts import Counts, OwnCounts
from dicom_node.ingest.door import Door, Limits
from dicom_node.ingest.identity import Passcodes, read_passcodes
from dicom_node.ingest.policy import AllowedPeer, AssociationPolicy
from dicom_node.ingest.receive import Receiver
from dicom_node.ingest.server import Entrance, Port, Server
from dicom_node.ingest.services import Offer, Service, ServiceMaker, no_services
from dicom_node.ingest.tls import TlsFiles, server_context
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import ConflictRule

_BACKLOG = 256  # connections waiting to be accepted; the system's default of 5 drops a modality's burst

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """How the node listens. Times in seconds, sizes in bytes.

    ``port`` 0 takes a free one. ``allowed`` empty admits nobody. ``pdu``: the largest P-DATA PDU taken; 128 KB is the
    fastest measured, larger is slower. ``watermark_bytes``: with less room on the disk, objects are refused with 0xA700.
    ``idle_timeout_s``: an association without a message for so long is aborted. ``acse_timeout_s``: the wait for an
    association request after the connection (ARTIM). ``extra_sop_classes``: private SOP classes to store too; "any": all
    that PS3.6 does not know. ``tls``: None listens in the clear. ``passcodes``: file of users and passcodes. Not ``durable``:
    success is answered before the object is safe, for measurements and caches only. ``conflicts``: what is done with other
    content under a known UID. ``tells_ends``: the ends of associations are recorded, for whoever decides on completeness.
    ``processes``: how many receive; ``Listener`` is one, ``processes.Listeners`` are more.
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
    conflicts: ConflictRule = ConflictRule.KEEP_BOTH
    tells_ends: bool = False
    processes: int = 1


class Listener:
    """Listens from ``start`` to ``stop``. ``policy`` replaces the one made from the settings. Raises SettingsError.

    ``counts`` and ``turn``: what it shares with other receiving processes.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        db: Database,
        files: FileStore,
        policy: AssociationPolicy | None = None,
        services: ServiceMaker = no_services,
        counts: Counts | None = None,
        turn: Turn | None = None,
    ) -> None:
        self._settings = settings
        made = AssociationPolicy(settings.ae_title, settings.allowed, settings.require_called_ae, settings.max_associations)
        self._door = Door(
            policy or made,
            Receiver(db, files, settings.watermark_bytes, None, settings.durable, settings.conflicts, turn or nullcontext),
            Limits(settings.pdu, settings.idle_timeout_s, settings.acse_timeout_s),
            _offer(settings, services(db, files)),
            server_context(settings.tls) if settings.tls else None,
            read_passcodes(settings.passcodes) if settings.passcodes else Passcodes(),
            settings.tells_ends,
            counts or OwnCounts(),
        )
        if not settings.durable:
            _log.warning("durability is off: what is acknowledged is lost when the power or this process fails")
        self._server: Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The bound port. Raises ListenError before ``start``."""
        if self._server is None:
            raise ListenError("The listener has not been started")
        return self._port

    @property
    def associations(self) -> int:
        """How many are open."""
        return self._door.inside

    def start(self, entrance: Entrance | None = None) -> None:
        """Bind and listen; peers can connect when this returns. Raises ListenError, which names the address.

        ``entrance``: where connections come from instead.
        """
        if entrance is None:
            listening = bind(self._settings)
            self._port = int(listening.getsockname()[1])
            entrance = Port(listening)
        self._server = Server(entrance, self._door)
        self._server.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Accept no more, let open associations finish for up to ``grace_s`` seconds, then abort them."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(grace_s)


def _offer(settings: ListenerSettings, services: Sequence[Service]) -> Offer:
    extra = frozenset(settings.extra_sop_classes)
    return Offer(extra - {ANY}, ANY in extra, tuple(services))


def bind(settings: ListenerSettings) -> socket.socket:
    """The listening socket, which never waits. Raises ListenError, which names the address."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ListenError(_why(settings, error)) from error
    listening.setblocking(False)
    return listening


def _why(settings: ListenerSettings, error: OSError | OverflowError) -> str:
    where = f"port {settings.port} of {settings.host}"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return f"Cannot listen on {where}: another program uses it; stop that one or choose another port"
    if number == errno.EACCES:
        return f"Cannot listen on {where}: not permitted; choose a port above 1023"
    return f"Cannot listen on {where}: {error}; check the address and the port"
