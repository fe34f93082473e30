"""One accepted association: pynetdicom negotiates and frames, the node decides and stores.

Three of pynetdicom's parts are replaced by subclasses: its association control asks the node's policy, its message decoder
writes data sets to the spool as they come instead of keeping them in memory, and C-STORE is answered here.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.association import MODE_ACCEPTOR, Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE

from dicom_node.errors import StorageError, describe
from dicom_node.ingest.contexts import supported_for
from dicom_node.ingest.limiter import EventLimiter
from dicom_node.ingest.policy import AssociationPolicy, Caller, Rejection
from dicom_node.ingest.receive import Announced, Answer, Receiver
from dicom_node.storage.events import EventKind, NewEvent
from dicom_node.storage.files import SpoolFile

_INVALID_PDU = "Evt19"  # PS3.8 9.2.3: the association is aborted

_log = structlog.get_logger()


@dataclass
class Door:
    """What all associations of a listener share."""

    policy: AssociationPolicy
    receiver: Receiver
    extra_sop_classes: frozenset[str]
    _admitted: set[threading.Thread] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _limiter: EventLimiter = field(default_factory=EventLimiter)

    def admit(self, association: threading.Thread, caller: Caller) -> Rejection | None:
        """None lets the association in, where it counts until its thread ends."""
        with self._lock:
            self._admitted = {other for other in self._admitted if other.is_alive()}
            rejection = self.policy.judge(caller, len(self._admitted))
            if rejection is None:
                self._admitted.add(association)
        if rejection is not None:
            self._record(rejection, caller)
        return rejection

    def _record(self, rejection: Rejection, caller: Caller) -> None:
        held = self._limiter.admit(f"{caller.calling_ae} {caller.host} {rejection.reason}", time.monotonic())
        if held is None:
            return
        text = f"{rejection.text} ({held} more before)" if held else rejection.text
        event = NewEvent(EventKind.REJECTED_ASSOCIATION, text, calling_ae=caller.calling_ae, host=caller.host)
        self.receiver.record(event)


class Incoming(io.BytesIO):
    """The data set of a message on its way to the spool, in the place of pynetdicom's buffer in memory.

    A failure of the disk is kept for the answer, and the rest of the data set is read past.
    """

    def __init__(self, begin: Callable[[], SpoolFile]) -> None:
        super().__init__()
        self._begin = begin
        self._lock = threading.Lock()
        self._given_up = False
        self.spool: SpoolFile | None = None
        self.failure: StorageError | None = None

    def write(self, data: Any) -> int:
        with self._lock:
            if self.failure is None and not self._given_up:
                self._write(data)
        return len(data)

    def _write(self, data: bytes) -> None:
        try:
            if self.spool is None:
                self.spool = self._begin()
            self.spool.write(data)
        except StorageError as error:
            self.failure = error
            self._drop()

    def give_up(self) -> None:
        """Delete what has come; the association has ended."""
        with self._lock:
            self._given_up = True
            self._drop()

    def _drop(self) -> None:
        if self.spool is not None:
            self.spool.discard()
            self.spool = None


class SpoolingDimse(DIMSEServiceProvider):  # type: ignore[misc]
    """Decodes messages; their data sets go to the spool fragment by fragment."""

    def __init__(self, association: Acceptor) -> None:
        super().__init__(association)
        self._open: set[Incoming] = set()

    def receive_primitive(self, primitive: Any) -> None:
        if self.message is None:
            message: Any = DIMSEMessage()
            message.data_set = Incoming(partial(self._begin, message))
            self.message: Any = message
        try:
            super().receive_primitive(primitive)
        except Exception as error:  # noqa: BLE001 - a command set that cannot be decoded must not end pynetdicom's thread
            _log.warning("association aborted: its command set cannot be decoded", error=describe(error))
            self.dul.event_queue.put(_INVALID_PDU)

    def close(self, incoming: Incoming) -> None:
        """The message has been answered."""
        incoming.give_up()
        self._open.discard(incoming)

    def close_all(self) -> None:
        for incoming in list(self._open):
            self.close(incoming)

    def _begin(self, message: Any) -> SpoolFile:
        self._open.add(message.data_set)
        spool: SpoolFile = self.assoc.door.receiver.begin(self.assoc.announced(message.command_set, message.context_id))
        return spool


class PolicedAcse(ACSE):  # type: ignore[misc]
    """Association control that asks the node's policy, and supports whatever may be stored."""

    def _negotiate_as_acceptor(self) -> None:
        request = self.requestor.primitive
        self.requestor.ae_title = request.calling_ae_title
        door: Door = self.assoc.door
        rejection = door.admit(self.assoc, self.assoc.caller)
        if rejection is not None:
            self.send_reject(rejection.result, rejection.source, rejection.reason)
            evt.trigger(self.assoc, evt.EVT_REJECTED, {})
            self.assoc.kill()
            return
        supported = supported_for(request.presentation_context_definition_list, door.extra_sop_classes)
        self.acceptor.supported_contexts = supported
        super()._negotiate_as_acceptor()


class Acceptor(Association):  # type: ignore[misc]
    """An association with a peer that called the node."""

    def __init__(self, ae: Any, door: Door) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.door = door
        self.acse = PolicedAcse(self)
        self.dimse = SpoolingDimse(self)

    @property
    def caller(self) -> Caller:
        request = self.requestor.primitive
        return Caller(request.calling_ae_title.strip(), request.called_ae_title.strip(), self.requestor.address)

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            self.dimse.close_all()

    def announced(self, command: Any, context_id: int) -> Announced:
        context = self._accepted_cx.get(context_id)
        syntax = str(context.transfer_syntax[0]) if context is not None else ""
        sop_class, sop = command.get("AffectedSOPClassUID", ""), command.get("AffectedSOPInstanceUID", "")
        return Announced(str(sop_class or ""), str(sop or ""), syntax, self.caller)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        try:
            if isinstance(msg, C_STORE) and context_id in self._accepted_cx:
                self._store(msg, context_id)
            else:
                super()._serve_request(msg, context_id)
        finally:
            for name in ("DataSet", "Identifier"):
                if isinstance(incoming := getattr(msg, name, None), Incoming):
                    self.dimse.close(incoming)

    def _store(self, request: Any, context_id: int) -> None:
        incoming = request.DataSet if isinstance(request.DataSet, Incoming) else None
        spool, failure = (incoming.spool, incoming.failure) if incoming is not None else (None, None)
        command = {"AffectedSOPClassUID": request.AffectedSOPClassUID, "AffectedSOPInstanceUID": request.AffectedSOPInstanceUID}
        answer = self.door.receiver.finish(self.announced(command, context_id), spool, failure)
        if self.is_established:
            self.dimse.send_msg(_response(request, answer), context_id)


def _response(request: Any, answer: Answer) -> Any:
    """C-STORE-RSP, PS3.7 9.3.1.2."""
    response = C_STORE()
    response.MessageID = request.MessageID
    response.MessageIDBeingRespondedTo = request.MessageID
    response.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
    response.AffectedSOPClassUID = request.AffectedSOPClassUID
    response.Status = answer.status
    if answer.comment:
        response.ErrorComment = answer.comment
    return response
