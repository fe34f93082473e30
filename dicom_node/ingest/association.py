"""An established association: PDUs in, objects to the receiver, responses out, one message at a time.

Whatever does not follow PS3.8 9.2 and PS3.7 raises Fault, which aborts the association and nothing else. Memory does not grow
with the object: a PDU's bytes go to the file as they come.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from dicom_node.errors import StorageError, describe
from dicom_node.ingest import dimse, pdu
from dicom_node.ingest.contexts import VERIFICATION
from dicom_node.ingest.dimse import Command
from dicom_node.ingest.exchange import Conversation, Reports
from dicom_node.ingest.line import BUFFER, Line, Lost, PeerAborted, Silent
from dicom_node.ingest.policy import Caller
from dicom_node.ingest.receive import OUT_OF_RESOURCES, PROCESSING_FAILURE, SUCCESS, Announced, Answer, Receiver
from dicom_node.ingest.services import MAX_DATA_SET, Context, Request, Service
from dicom_node.storage.arriving import ArrivingFile

_START = 8192  # bytes of a data set that are looked at on their way: most headers end before
_SLACK = 12  # bytes; some senders count a PDU's length without its headers
_LEAST_RATE = 1024  # bytes a second of a message that takes long
_AHEAD = BUFFER // 2 - pdu.HEADER.size


@dataclass(slots=True)
class _Message:
    """A request whose data set is on its way. ``file`` is None where nothing is to be stored, or not yet.

    ``service``: whose it is; its data set is gathered in ``gathered``, None where that became too large.
    """

    context_id: int
    command: Command
    announced: Announced | None
    file: ArrivingFile | None = None
    failure: StorageError | None = None
    start: bytes = b""
    service: Service | None = None
    gathered: bytearray | None = None


@dataclass(slots=True)
class Association:
    """``max_pdu``: the longest P-DATA-TF taken; ``peer_max_pdu``: the longest the peer takes (bytes; 0: any).

    ``services``: by SOP class, whose commands are not the listener's own. ``name``: which association it is, of all processes;
    empty where nobody asks for its end. ``carried``: whether an object was stored.
    """

    line: Line
    receiver: Receiver
    caller: Caller
    contexts: dict[int, Context]
    max_pdu: int
    peer_max_pdu: int
    idle_timeout_s: float
    services: Mapping[str, Service] = field(default_factory=dict)
    name: str = ""
    carried: bool = False
    stopping: bool = False
    reports: Reports = field(default_factory=Reports)
    _message: _Message | None = None
    _command: bytearray = field(default_factory=bytearray)
    _command_context: int = 0
    _since: float = 0.0
    _received_before: int = 0

    @property
    def busy(self) -> bool:
        """Whether a message is under way."""
        return self._message is not None or bool(self._command)

    def serve(self) -> None:
        """Returns after the peer's release. Raises Fault, PeerAborted, Lost, Silent; a partial object is then gone."""
        try:
            while self._pdu():
                pass
        finally:
            self._drop()

    def _pdu(self) -> bool:
        """One PDU; False for a release."""
        if self.stopping:
            raise pdu.Fault("the node stops", source=pdu.SERVICE_USER)
        message = self._message
        if message is not None and message.announced is not None and self._stream(message):
            self._answer(message)
        ahead = pdu.ITEM.size if self._message is not None else _AHEAD  # the bulk of an object passes the buffer by
        kind, length = pdu.HEADER.unpack(self.line.fetch(pdu.HEADER.size, ahead))
        if kind == pdu.DATA:
            self._data(length)
            return True
        if kind == pdu.RELEASE_RQ:
            self._release(length)
            return False
        if kind == pdu.ABORT:
            raise PeerAborted("the peer aborted")
        if kind in (pdu.ASSOCIATE_RQ, pdu.ASSOCIATE_AC, pdu.ASSOCIATE_RJ, pdu.RELEASE_RP):
            raise pdu.Fault(f"a PDU of type 0x{kind:02X} came on an established association", pdu.UNEXPECTED)
        raise pdu.Fault(f"a PDU of the unknown type 0x{kind:02X}", pdu.UNRECOGNIZED)

    def _stream(self, message: _Message) -> bool:
        """The quick way for an object: PDUs of one item each. Any other is left to ``_pdu``. Whether the object is whole."""
        line, file, head = self.line, message.file or self._begun(message), pdu.DATA_AND_ITEM
        if file is None:
            return False
        while message.failure is None and not self.stopping:
            told = line.peek(head, pdu.HEADER.size)
            if told is None:
                return False
            kind, length, item, context_id, flags = told
            if kind != pdu.DATA or flags & pdu.COMMAND or context_id != message.context_id:
                return False
            if not 2 <= item == length - 4 or length > self.max_pdu:
                return False
            line.pass_by(head.size)
            if message.start:
                message.failure = line.forward(item - 2, file)
            else:
                self._take_piece(message, file, item - 2)
            self._not_too_slow()
            if flags & pdu.LAST:
                return True
        return False

    def _begun(self, message: _Message) -> ArrivingFile | None:
        """The file of an object whose first bytes come; None where there can be none, which is then its failure."""
        if message.announced is not None and message.failure is None:
            try:
                message.file = self.receiver.begin(message.announced)
            except StorageError as error:
                message.failure = error
        return message.file

    def _release(self, length: int) -> None:
        if length != 4:
            raise pdu.Fault(f"a release request of {length} bytes", pdu.INVALID_PARAMETER)
        if self.busy:
            raise pdu.Fault("a release request came in the middle of a message", pdu.UNEXPECTED)
        self.line.fetch(length)
        self.line.send(pdu.RELEASE_RESPONSE)

    def _data(self, left: int) -> None:
        if left < pdu.ITEM.size or left > self.max_pdu + _SLACK:
            raise pdu.Fault(f"a P-DATA PDU of {left} bytes; at most {self.max_pdu} were agreed", pdu.INVALID_PARAMETER)
        if not self.busy:
            self._since, self._received_before = time.monotonic(), self.line.received
        while left:
            if left < pdu.ITEM.size:
                raise pdu.Fault("a P-DATA PDU ends in the middle of an item", pdu.INVALID_PARAMETER)
            length, context_id, flags = pdu.ITEM.unpack(self.line.fetch(pdu.ITEM.size))
            if not 2 <= length <= left - 4:
                raise pdu.Fault(f"an item of {length} bytes in the last {left} of a PDU", pdu.INVALID_PARAMETER)
            if context_id not in self.contexts:
                raise pdu.Fault(f"presentation context {context_id} was not accepted", pdu.INVALID_PARAMETER)
            left -= length + 4
            self._fragment(context_id, flags, length - 2)
        self._not_too_slow()

    def _fragment(self, context_id: int, flags: int, size: int) -> None:
        if flags & pdu.COMMAND:
            self._command_fragment(context_id, size, bool(flags & pdu.LAST))
            return
        message = self._message
        if message is None:
            raise pdu.Fault("a data set came without a command", pdu.UNEXPECTED_PARAMETER)
        if context_id != message.context_id:
            raise pdu.Fault("the presentation context changed within a message", pdu.UNEXPECTED_PARAMETER)
        self._take(message, size)
        if flags & pdu.LAST:
            self._answer(message)

    def _command_fragment(self, context_id: int, size: int, last: bool) -> None:
        if self._message is not None:
            raise pdu.Fault("a command came in place of a data set", pdu.UNEXPECTED_PARAMETER)
        if self._command and context_id != self._command_context:
            raise pdu.Fault("the presentation context changed within a command", pdu.UNEXPECTED_PARAMETER)
        if len(self._command) + size > dimse.MAX_COMMAND:
            raise pdu.Fault(f"a command of more than {dimse.MAX_COMMAND} bytes", pdu.INVALID_PARAMETER)
        self._command_context = context_id
        self._command += self.line.fetch(size)
        if last:
            self._begin(context_id)

    def _begin(self, context_id: int) -> None:
        try:
            if self.reports.answered(self._command):
                self._command.clear()
                return
            command = dimse.decode(bytes(self._command))
        except dimse.Malformed as error:
            raise pdu.Fault(str(error), source=pdu.SERVICE_USER) from error
        self._command.clear()
        if command.field == dimse.C_CANCEL:
            return  # of an operation that has ended; there is no response to it (PS3.7 9.3.2.3)
        context = self.contexts[context_id]
        service = self.services.get(context.abstract_syntax)
        announced = None
        stores = service is None and context.peer_is_scu and context.abstract_syntax != VERIFICATION
        if command.field == dimse.C_STORE and stores:
            announced = Announced(command.sop_class_uid, command.sop_uid, context.transfer_syntax, self.caller, self.name)
        gathered = None if service is None else bytearray()
        self._message = _Message(context_id, command, announced, service=service, gathered=gathered)
        if not command.has_data_set:
            self._answer(self._message)

    def _take(self, message: _Message, size: int) -> None:
        """A fragment of the data set, to its file, its service or nowhere."""
        if message.gathered is not None:
            message.gathered = self._gather(message.gathered, size)
            return
        file = message.file or self._begun(message)
        if file is None or message.failure is not None:
            self.line.skip(size)
        else:
            self._take_piece(message, file, size)

    def _take_piece(self, message: _Message, file: ArrivingFile, size: int) -> None:
        """The first bytes are kept for the header, and written with what else has come; the rest passes by."""
        if message.start or not size:
            message.failure = self.line.forward(size, file)
            return
        piece = self.line.fetch_some(min(size, _START), size)
        message.start = bytes(piece[:_START])
        try:
            file.write(piece)
        except StorageError as error:
            message.failure = error
            self.line.skip(size - len(piece))
        else:
            message.failure = self.line.forward(size - len(piece), file)

    def _gather(self, before: bytearray, size: int) -> bytearray | None:
        if len(before) + size > MAX_DATA_SET:
            self.line.skip(size)
            return None
        while size:
            piece = self.line.fetch(min(size, BUFFER))
            before += piece
            size -= len(piece)
        return before

    def _answer(self, message: _Message) -> None:
        command = message.command
        if message.service is not None and message.gathered is not None:
            self._message = None
            self._serve(message.service, self._request(message, bytes(message.gathered)))
            return
        if message.announced is not None:
            answer = self.receiver.finish(message.announced, message.file, message.failure, message.start)
            self.carried |= answer.status == SUCCESS
        elif command.field == dimse.C_ECHO and self.contexts[message.context_id].abstract_syntax == VERIFICATION:
            answer = Answer(SUCCESS)
        else:
            answer = self._refused(message)
        self._message = None
        response = dimse.response(command, answer.status, answer.comment)
        self.line.send(pdu.command(message.context_id, response, self.peer_max_pdu))

    def _refused(self, message: _Message) -> Answer:
        if message.service is not None:
            return Answer(OUT_OF_RESOURCES, "The data set of the request is too large")
        return Answer(dimse.refusal(message.command.field), "This node offers C-ECHO and C-STORE")

    def _request(self, message: _Message, data_set: bytes) -> Request:
        command = message.command
        context = self.contexts[message.context_id]
        return Request(command.field, command.message_id, command.elements, context, data_set, self.caller)

    def _serve(self, service: Service, request: Request) -> None:
        """Whatever a service does, its command is answered once, and storing goes on."""
        exchange = Conversation(self.line, request, tuple(self.contexts.values()), self.peer_max_pdu, self)
        try:
            service.serve(request, exchange)
            why = "" if exchange.answered else "The service gave no answer"
        except (Lost, Silent, PeerAborted, pdu.Fault):
            raise
        except Exception as error:  # noqa: BLE001 - a service must not take its association down; the peer learns of it
            why = describe(error)
        if why:
            self.receiver.record_failure(request.caller, f"Command 0x{request.field:04X} failed: {why}")
        if not exchange.answered:
            exchange.respond(PROCESSING_FAILURE, comment="Processing failed; the operator has been told")

    def _not_too_slow(self) -> None:
        """A message may take as long as it needs, but bytes must come."""
        elapsed = time.monotonic() - self._since
        if elapsed > self.idle_timeout_s and self.line.received - self._received_before < _LEAST_RATE * elapsed and self.busy:
            raise Silent("the peer sends too slowly")

    def _drop(self) -> None:
        if self._message is not None and self._message.file is not None:
            self._message.file.discard()
