"""A service's conversation with the peer: responses, C-CANCEL, and C-STORE sub-operations of a C-GET (PS3.7 9.1, 9.3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack
from typing import Protocol

from dicom_node.ingest import dimse, pdu
from dicom_node.ingest.line import BUFFER, Line, PeerAborted
from dicom_node.ingest.services import Context, Request

PENDING = (0xFF00, 0xFF01)  # PS3.4 C.4.1.1.4
_PIECE = 131072  # bytes of a P-DATA-TF that the node sends to a peer that takes any
_MEDIUM = b"\0\0"  # Priority (0000,0700)


@dataclass(slots=True)
class Reports:
    """N-EVENT-REPORT that were sent on an association and not answered yet: by message ID, who hears of the answer."""

    _waiting: dict[int, Callable[[int], None]] = field(default_factory=dict)

    def add(self, heard: Callable[[int], None]) -> int:
        number = max(self._waiting, default=0) % 0xFFFF + 1
        self._waiting[number] = heard
        return number

    def answered(self, command: bytes | bytearray) -> bool:
        """Whether a command set is such an answer (PS3.7 10.3.1), which is then passed on. Raises Malformed."""
        return bool(self._waiting) and self.take(dimse.elements(bytes(command)))

    def take(self, values: Mapping[int, bytes]) -> bool:
        if dimse.unsigned(values, 0x0100) != dimse.N_EVENT_REPORT | dimse.RESPONSE:
            return False
        heard = self._waiting.pop(dimse.unsigned(values, 0x0120), None)
        if heard is not None:
            heard(dimse.unsigned(values, 0x0900))
        return heard is not None


class Company(Protocol):
    stopping: bool
    reports: Reports


@dataclass(slots=True)
class Conversation:
    """Implements ``services.Exchange`` on an association's line. ``peer_max_pdu``: bytes the peer takes in one; 0: any."""

    line: Line
    request: Request
    contexts: tuple[Context, ...]
    peer_max_pdu: int
    association: Company
    answered: bool = False
    _cancelled: bool = False
    _message_id: int = 0
    _rest: bytearray = field(default_factory=bytearray)

    @property
    def stopping(self) -> bool:
        return self.association.stopping

    def respond(self, status: int, data_set: bytes = b"", comment: str = "", elements: Mapping[int, bytes] = {}) -> None:
        asked = self.request.elements
        values = {
            0x0002: asked.get(0x0002, asked.get(0x0003, b"")),
            0x0100: pack("<H", self.request.field | dimse.RESPONSE),
            0x0120: pack("<H", self.request.message_id),
            0x0800: b"\x01\x00" if data_set else b"\x01\x01",
            0x0900: pack("<H", status),
            0x0902: dimse.padded(comment, b" "),
            0x1000: asked.get(0x1000, asked.get(0x1001, b"")),
        }
        kept = {number: value for number, value in values.items() if value}
        self._send(self.request.context.id, dimse.encode({**kept, **elements}), data_set)
        self.answered |= status not in PENDING

    def cancelled(self) -> bool:
        while self.line.waiting():
            self._other_than_response(self._command())
        return self._cancelled

    def quiet(self, seconds: float) -> bool:
        return not self.line.waiting(seconds)

    def report(self, event: int, data_set: bytes, sop_class_uid: str, sop_uid: str, heard: Callable[[int], None]) -> None:
        values = {
            0x0002: dimse.padded(sop_class_uid),
            0x0100: pack("<H", dimse.N_EVENT_REPORT),
            0x0110: pack("<H", self.association.reports.add(heard)),
            0x0800: b"\x01\x00",
            0x1000: dimse.padded(sop_uid),
            0x1002: pack("<H", event),
        }
        self._send(self.request.context.id, dimse.encode(values), data_set)

    def store(
        self,
        context: Context,
        sop_class_uid: str,
        sop_uid: str,
        data_set: Path,
        offset: int,
        originator: tuple[str, int] | None = None,
    ) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        values = {
            0x0002: dimse.padded(sop_class_uid),
            0x0100: pack("<H", dimse.C_STORE),
            0x0110: pack("<H", self._message_id),
            0x0700: _MEDIUM,
            0x0800: b"\x01\x00",
            0x1000: dimse.padded(sop_uid),
        }
        if originator is not None:
            values |= {0x1030: dimse.padded(originator[0], b" ", 16), 0x1031: pack("<H", originator[1])}
        with data_set.open("rb") as file:  # before anything is said: a file that is gone ends nothing
            size = os.fstat(file.fileno()).st_size - offset
            file.seek(offset)
            self._send(context.id, dimse.encode(values))
            for piece, last in _pieces(file.read, size, self._most()):
                self.line.send(pdu.data(context.id, piece, last))
        return self._status_of_store()

    def _send(self, context_id: int, command: bytes, data_set: bytes = b"") -> None:
        self.line.send(pdu.command(context_id, command, self.peer_max_pdu))
        most = self._most()
        for at in range(0, len(data_set), most):
            self.line.send(pdu.data(context_id, data_set[at : at + most], at + most >= len(data_set)))

    def _most(self) -> int:
        return max(min(self.peer_max_pdu or _PIECE, _PIECE) - pdu.ITEM.size, 2)

    def _status_of_store(self) -> int:
        while True:
            values = self._command()
            field = dimse.unsigned(values, 0x0100)
            if field == dimse.C_STORE | dimse.RESPONSE and dimse.unsigned(values, 0x0120) == self._message_id:
                return dimse.unsigned(values, 0x0900)
            self._other_than_response(values)

    def _other_than_response(self, values: Mapping[int, bytes]) -> None:
        if self.association.reports.take(values):
            return
        if dimse.unsigned(values, 0x0100) != dimse.C_CANCEL:
            raise pdu.Fault("another command came before the response to the last one", pdu.UNEXPECTED_PARAMETER)
        self._cancelled |= dimse.unsigned(values, 0x0120) == self.request.message_id

    def _command(self) -> dict[int, bytes]:
        """The next command set that the peer sends; none of those that may come here has a data set."""
        command = bytearray()
        try:
            while not self._fragments(command):
                pass
            return dimse.elements(bytes(command))
        except dimse.Malformed as error:
            raise pdu.Fault(str(error), source=pdu.SERVICE_USER) from error

    def _fragments(self, command: bytearray) -> bool:
        """Add one PDU's fragments; whether the last one was among them."""
        kind, left = pdu.HEADER.unpack(self.line.fetch(pdu.HEADER.size, BUFFER))
        if kind == pdu.ABORT:
            raise PeerAborted("the peer aborted")
        if kind != pdu.DATA or left > dimse.MAX_COMMAND:
            raise pdu.Fault(f"a PDU of type 0x{kind:02X} came in the middle of an operation", pdu.UNEXPECTED)
        last = False
        while left:
            if left < pdu.ITEM.size or last:
                raise pdu.Fault("a P-DATA PDU ends in the middle of an item", pdu.INVALID_PARAMETER)
            length, _, flags = pdu.ITEM.unpack(self.line.fetch(pdu.ITEM.size))
            if not 2 <= length <= left - 4 or not flags & pdu.COMMAND or len(command) + length > dimse.MAX_COMMAND:
                raise pdu.Fault("no command came where one must", pdu.UNEXPECTED_PARAMETER)
            command += self.line.fetch(length - 2)
            left -= length + 4
            last = bool(flags & pdu.LAST)
        return last


class _Read(Protocol):
    def __call__(self, count: int, /) -> bytes: ...


def _pieces(read: _Read, size: int, most: int) -> Iterator[tuple[bytes, bool]]:
    """What ``read`` gives in pieces of at most ``most`` bytes, each with whether it is the last."""
    left = size
    while left > 0:
        piece = read(min(most, left))
        if not piece:
            raise pdu.Fault("a stored file became shorter while it was sent", source=pdu.SERVICE_USER)
        left -= len(piece)
        yield piece, left == 0
