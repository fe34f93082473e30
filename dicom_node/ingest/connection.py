"""One connection, from TLS to its end, in a thread of its own that sleeps while nothing comes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable

import structlog

from dicom_node import measures
from dicom_node.errors import describe
from dicom_node.ingest import pdu
from dicom_node.ingest.association import Association
from dicom_node.ingest.door import Door
from dicom_node.ingest.line import Line, Lost, PeerAborted, Silent, shut
from dicom_node.ingest.negotiation import Request, Unacceptable, accept, read_request
from dicom_node.ingest.policy import Caller
from dicom_node.ingest.tls import names_in
from dicom_node.storage.events import EventKind, Severity

_log = structlog.get_logger()


class Connection(threading.Thread):
    """``start`` serves the peer until one side ends it; ``stop`` aborts. ``over`` is called at its end."""

    def __init__(self, connection: socket.socket, host: str, door: Door, over: Callable[[], None]) -> None:
        super().__init__(name=f"dicom-{host}", daemon=True)
        self._socket = connection
        self._door = door
        self._over = over
        self._line: Line | None = None
        self._caller = Caller("", "", host)
        self._stopping = False
        self.began = time.monotonic()
        self.association: Association | None = None

    @property
    def established(self) -> bool:
        return self.association is not None

    def stop(self) -> None:
        """Abort, as soon as what is being answered has been answered."""
        self._stopping = True
        if self.association is not None:
            self.association.stopping = True
        shut(self._socket, socket.SHUT_RD)

    def cut(self) -> None:
        """End it now."""
        shut(self._socket, socket.SHUT_RDWR)

    def run(self) -> None:
        try:
            self._serve()
        except (ssl.SSLError, Silent, Lost, OSError) as error:
            self._without_association(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must end this connection alone, and be told
            _log.error("internal failure of an association", error=describe(error))
            self._record(f"Internal failure ({type(error).__name__})", Severity.ALERT)
        finally:
            if self._line is not None:
                self._line.close()
            self._socket.close()
            self._over()

    def _serve(self) -> None:
        limit = self._door.limits.acse_timeout_s
        if self._door.tls is not None:
            self._socket.settimeout(limit)
            secure = self._door.tls.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
            self._socket = secure  # at once: who is slow over the handshake can be cut, too
            secure.do_handshake()
        self._line = line = Line(self._socket, limit)
        try:
            self._negotiate(line, read_request(line))
        except pdu.Fault as fault:
            self._abort(line, fault)
        except Unacceptable as error:
            self._record(f"Rejected: {error}", kind=EventKind.REJECTED_ASSOCIATION)
            line.send(pdu.reject(*error.answer))
            line.hang_up()

    def _negotiate(self, line: Line, request: Request) -> None:
        self._caller = self._identified(request)
        rejection = self._door.admit(self._caller)
        if rejection is not None:
            self._record(rejection.text, kind=EventKind.REJECTED_ASSOCIATION)
            line.send(pdu.reject(rejection.result, rejection.source, rejection.reason))
            line.hang_up()
            return
        try:
            self._associate(line, request)
        finally:
            self.association = None
            self._door.leave()
        line.hang_up()

    def _associate(self, line: Line, request: Request) -> None:
        """Raises nothing that the end of an association may bring."""
        limits = self._door.limits
        answer, contexts = accept(request, self._door.offer, limits.pdu, bool(self._caller.user))
        line.limit(limits.idle_timeout_s)
        association = Association(
            line,
            self._door.receiver,
            self._caller,
            contexts,
            limits.pdu,
            request.max_pdu,
            limits.idle_timeout_s,
            self._door.offer.by_class,
            self._door.name_of_next(),
        )
        released = False
        try:
            line.send(answer)
            self.association = association
            association.stopping = self._stopping
            association.serve()
            released = True
        except pdu.Fault as fault:
            self._abort(line, fault)
        except Silent as error:
            self._abort(line, pdu.Fault(str(error), source=pdu.SERVICE_USER))
        except (Lost, PeerAborted) as error:
            if self._stopping:
                self._abort(line, pdu.Fault("the node stops", source=pdu.SERVICE_USER))
            else:
                self._ended(association, str(error))
        finally:
            measures.count(measures.ASSOCIATIONS, outcome="released" if released else "aborted")
            if association.carried:
                self._door.receiver.ended(association.name, released)

    def _identified(self, request: Request) -> Caller:
        names = names_in(self._socket.getpeercert()) if isinstance(self._socket, ssl.SSLSocket) else ()
        given, user = request.identity, ""
        if given is not None:
            user = self._door.passcodes.user(
                given.user_identity_type or 0, given.primary_field or b"", given.secondary_field or b""
            )
        return Caller(request.calling_ae, request.called_ae, self._caller.host, names, user)

    def _abort(self, line: Line, fault: pdu.Fault) -> None:
        with contextlib.suppress(Lost, Silent):
            line.send(pdu.abort(fault.source, fault.reason))
        if not self._stopping:
            self._record(f"Aborted: {fault}")
        line.hang_up()

    def _ended(self, association: Association, why: str) -> None:
        if association.busy:
            self._record(f"Ended in the middle of an object: {why}")
        else:
            self._record(f"Ended without a release: {why}", Severity.INFO)

    def _without_association(self, error: Exception) -> None:
        """A probe that only connects is no event: load balancers look every second whether the port is open."""
        if isinstance(error, ssl.SSLError):
            self._record(f"No TLS: {error.reason or 'the handshake failed'}")
        elif isinstance(error, Silent | TimeoutError):
            self._record(f"No association request: {error}")
        elif self._line is not None and self._line.received:
            self._record("Ended before its association began")

    def _record(
        self, text: str, severity: Severity = Severity.WARNING, kind: EventKind = EventKind.ABORTED_ASSOCIATION
    ) -> None:
        self._door.record(kind, text, self._caller, severity)
