"""The node's DICOM port: C-ECHO and C-STORE."""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_node.errors import ListenError
from dicom_node.ingest.association import Acceptor, Door
from dicom_node.ingest.contexts import VERIFICATION
from dicom_node.ingest.policy import AllowedPeer, AssociationPolicy
from dicom_node.ingest.receive import Receiver
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore

_BACKLOG = 256  # connections waiting to be accepted; the system's default of 5 drops a modality's burst
_POLL_S = 0.1

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """How the node listens. Times in seconds, sizes in bytes.

    ``port`` 0 takes a free one. ``allowed`` empty admits nobody. ``pdu``: the largest P-DATA PDU taken; 128 KB is the
    fastest measured, larger is slower. ``watermark_bytes``: with less room on the disk, objects are refused with 0xA700.
    ``idle_timeout_s``: an association without a message for so long is aborted. ``acse_timeout_s``: the wait for an
    association request after the connection. ``extra_sop_classes``: private SOP classes to store too.
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
    dimse_timeout_s: float = 30.0
    extra_sop_classes: tuple[str, ...] = ()


class Listener:
    """Listens from ``start`` to ``stop``. ``policy`` replaces the one made from the settings."""

    def __init__(
        self, settings: ListenerSettings, db: Database, files: FileStore, policy: AssociationPolicy | None = None
    ) -> None:
        self._settings = settings
        made = AssociationPolicy(settings.ae_title, settings.allowed, settings.require_called_ae, settings.max_associations)
        receiver = Receiver(db, files, settings.watermark_bytes)
        self._door = Door(policy or made, receiver, frozenset(settings.extra_sop_classes))
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The bound port. Raises ListenError before ``start``."""
        if self._server is None:
            raise ListenError("The listener has not been started")
        return int(self._server.server_address[1])

    @property
    def associations(self) -> int:
        """How many connections are open."""
        return len(self._server.active_associations) if self._server is not None else 0

    def start(self) -> None:
        """Bind and listen; peers can connect when this returns. Raises ListenError, which names the address."""
        self._server = _bind(self._settings, self._door)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="dicom-listener", daemon=True)
        self._thread.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Accept no more, let open associations finish for up to ``grace_s`` seconds, then abort them."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        deadline = time.monotonic() + grace_s
        while server.established and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in server.established:
            association.abort()


def _bind(settings: ListenerSettings, door: Door) -> _Server:
    ae = AE(settings.ae_title)
    ae.maximum_pdu_size = settings.pdu
    ae.maximum_associations = 1 << 20  # the policy counts, without connections that never asked for an association
    ae.acse_timeout = settings.acse_timeout_s
    ae.dimse_timeout = settings.dimse_timeout_s
    ae.network_timeout = settings.idle_timeout_s
    address = (settings.host, settings.port)
    try:
        server: _Server = ae.make_server(
            address, contexts=[build_context(VERIFICATION)], server_class=_Server, request_handler=_Handler
        )
    except (OSError, OverflowError) as error:
        raise ListenError(_why(settings, error)) from error
    server.door = door
    ae._servers.append(server)  # where pynetdicom's own start_server puts it; shutdown takes it out again
    return server


def _why(settings: ListenerSettings, error: OSError | OverflowError) -> str:
    where = f"port {settings.port} of {settings.host}"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return f"Cannot listen on {where}: another program uses it; stop that one or choose another port"
    if number == errno.EACCES:
        return f"Cannot listen on {where}: not permitted; choose a port above 1023"
    return f"Cannot listen on {where}: {error}; check the address and the port"


class _Server(ThreadedAssociationServer):  # type: ignore[misc]
    request_queue_size = _BACKLOG
    daemon_threads = True
    door: Door

    @property
    def established(self) -> list[Acceptor]:
        """Without connections that never asked for an association: nobody waits for those."""
        return [association for association in self.active_associations if association.is_established]

    def _bind_defaults(self) -> None:
        """Without pynetdicom's logging of every message, which costs much and may show patient data."""
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        _log.warning("a connection was lost before its association began", host=client_address[0])


class _Handler(RequestHandler):  # type: ignore[misc]
    def _create_association(self) -> Acceptor:
        """As pynetdicom's own, with the node's association; contexts are set when the peer has proposed some."""
        association = Acceptor(self.ae, self.server.door)
        association._server = self.server
        association.name = f"AcceptorThread@{datetime.now():%Y%m%d%H%M%S}"  # found by this name in active_associations
        association.set_socket(AssociationSocket(association, client_socket=self.request))
        association.acceptor.maximum_length = self.ae.maximum_pdu_size
        association.acceptor.ae_title = self.server.ae_title
        association.acceptor.address_info = self.local
        association.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        association.acceptor.implementation_version_name = self.ae.implementation_version_name
        association.requestor.address_info = self.remote
        for event, handler in self.server._handlers.items():
            if event.is_intervention and handler:
                association.bind(event, *handler)
        return association
