"""An established association: PDUs in, objects to the receiver, responses out, one message at a time.

Whatever does not follow PS3.8 9.2 and PS3.7 raises Fault, which aborts the association and nothing else. Memory does not grow
with the object: a PDU's bytes go to the file as they come.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dicom_node.errors import StorageError
from dicom_node.ingest import dimse, pdu
from dicom_node.ingest.contexts import VERIFICATION
from dicom_node.ingest.dimse import Command
from dicom_node.ingest.line import BUFFER, Line, Silent
from dicom_node.ingest.negotiation import Context
from dicom_node.ingest.policy import Caller
from dicom_node.ingest.receive import SUCCESS, Announced, Answer, Receiver
from dicom_node.storage.arriving import ArrivingFile

_START = 8192  # bytes of a data set that are looked at on their way: most headers end before
_SLACK = 12  # bytes; some senders count a PDU's length without its headers
_LEAST_RATE = 1024  # bytes a second of a message that takes long
_AHEAD = BUFFER - pdu.HEADER.size


class PeerAborted(Exception):  # noqa: N818
    """The peer sent an A-ABORT."""


@dataclass(slots=True)
class _Message:
    """A request whose data set is on its way. ``file`` is None where nothing is to be stored, or not yet."""

    context_id: int
    command: Command
    announced: Announced | None
    file: ArrivingFile | None = None
    failure: StorageError | None = None
    start: bytes = b""


@dataclass(slots=True)
class Association:
    """``max_pdu``: the longest P-DATA-TF taken; ``peer_max_pdu``: the longest the peer takes (bytes; 0: any)."""

    line: Line
    receiver: Receiver
    caller: Caller
    contexts: dict[int, Context]
    max_pdu: int
    peer_max_pdu: int
    idle_timeout_s: float
    stopping: bool = False
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
        if self._message is not None and self._message.start:
            self._stream(self._message)
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

    def _stream(self, message: _Message) -> None:
        """The quick way for the middle of an object: PDUs of one item that is not the last. Any other is left to ``_pdu``."""
        line, file, most, both = self.line, message.file, self.max_pdu, pdu.DATA_AND_ITEM
        while file is not None and message.failure is None and not self.stopping:
            if line.ready(pdu.HEADER.size, both.size) < both.size:
                return
            kind, length, item, context_id, flags = both.unpack(line.fetch(both.size))
            whole = kind == pdu.DATA and 2 <= item == length - 4 and length <= most
            if not whole or flags or context_id != message.context_id:
                line.unread(both.size)
                return
            message.failure = line.forward(item - 2, file)
            self._not_too_slow()

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
            command = dimse.decode(bytes(self._command))
        except dimse.Malformed as error:
            raise pdu.Fault(str(error), source=pdu.SERVICE_USER) from error
        self._command.clear()
        if command.field == dimse.C_CANCEL:
            return  # of an operation that has ended; there is no response to it (PS3.7 9.3.2.3)
        context = self.contexts[context_id]
        announced = None
        if command.field == dimse.C_STORE and context.abstract_syntax != VERIFICATION:
            announced = Announced(command.sop_class_uid, command.sop_uid, context.transfer_syntax, self.caller)
        self._message = _Message(context_id, command, announced)
        if not command.has_data_set:
            self._answer(self._message)

    def _take(self, message: _Message, size: int) -> None:
        """A fragment of the data set, to its file or nowhere."""
        if message.announced is None or message.failure is not None:
            self.line.skip(size)
            return
        try:
            if message.file is None:
                message.file = self.receiver.begin(message.announced)
        except StorageError as error:
            message.failure = error
            self.line.skip(size)
            return
        begun = 0 if message.start else min(size, _START)
        message.failure = self._take_start(message, message.file, begun)
        if message.failure is None:
            message.failure = self.line.forward(size - begun, message.file)
        else:
            self.line.skip(size - begun)

    def _take_start(self, message: _Message, file: ArrivingFile, size: int) -> StorageError | None:
        if not size:
            return None
        piece = self.line.fetch(size, _START)
        message.start = bytes(piece)
        try:
            file.write(piece)
        except StorageError as error:
            return error
        return None

    def _answer(self, message: _Message) -> None:
        command = message.command
        if message.announced is not None:
            answer = self.receiver.finish(message.announced, message.file, message.failure, message.start)
        elif command.field == dimse.C_ECHO and self.contexts[message.context_id].abstract_syntax == VERIFICATION:
            answer = Answer(SUCCESS)
        else:
            answer = Answer(dimse.refusal(command.field), "This node offers C-ECHO and C-STORE")
        self._message = None
        response = dimse.response(command, answer.status, answer.comment)
        self.line.send(pdu.command(message.context_id, response, self.peer_max_pdu))

    def _not_too_slow(self) -> None:
        """A message may take as long as it needs, but bytes must come."""
        elapsed = time.monotonic() - self._since
        if elapsed > self.idle_timeout_s and self.line.received - self._received_before < _LEAST_RATE * elapsed and self.busy:
            raise Silent("the peer sends too slowly")

    def _drop(self) -> None:
        if self._message is not None and self._message.file is not None:
            self._message.file.discard()
