"""DICOM as bytes on a socket, written from PS3.7 and PS3.8 with nothing of the node or pynetdicom."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import ClassVar

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
APPLICATION = "1.2.840.10008.3.1.1.1"
RELEASE_RQ = struct.pack(">BxI4x", 5, 4)
ABORT = struct.pack(">BxI4x", 7, 4)


def even(text: str, padding: bytes = b"\0") -> bytes:
    value = text.encode()
    return value + padding * (len(value) % 2)


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def associate_rq(
    contexts: dict[int, str] | None = None,
    *,
    called: str = "WETREAD",
    version: int = 1,
    application: str = APPLICATION,
    max_pdu: int = 16384,
    identity: tuple[str, str] | None = None,
) -> bytes:
    proposed = b"".join(
        item(0x20, bytes([number, 0, 0, 0]) + item(0x30, uid.encode()) + item(0x40, EXPLICIT.encode()))
        for number, uid in (contexts or {1: CT, 3: VERIFICATION}).items()
    )
    user = item(0x51, struct.pack(">I", max_pdu)) + item(0x52, b"1.2.3.4")
    if identity is not None:
        name, passcode = (part.encode() for part in identity)
        user += item(0x58, b"\2\1" + struct.pack(">H", len(name)) + name + struct.pack(">H", len(passcode)) + passcode)
    head = struct.pack(">HH16s16s32x", version, 0, called.encode().ljust(16), b"SENDER".ljust(16))
    body = head + item(0x10, application.encode()) + proposed + item(0x50, user)
    return struct.pack(">BxI", 1, len(body)) + body


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def command(field: int, sop_class: str, uid: str = "", *, data: bool = True, message_id: int = 7, more: bytes = b"") -> bytes:
    body = element(2, even(sop_class)) + element(0x100, struct.pack("<H", field))
    if field != 0x0FFF:
        body += element(0x110, struct.pack("<H", message_id))
    body += element(0x700, b"\0\0") + element(0x800, struct.pack("<H", 1 if data else 0x0101))
    body += (element(0x1000, even(uid)) if uid else b"") + more
    return element(0, struct.pack("<I", len(body))) + body


def pdv(context: int, flags: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context, flags) + data


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BxI", 4, len(body)) + body


def store(uid: str, data: bytes, *, context: int = 1, step: int = 16000, sop_class: str = CT) -> bytes:
    """A C-STORE request with its data set in fragments of ``step`` bytes."""
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    flags = [0] * (len(pieces) - 1) + [2]
    return p_data(pdv(context, 3, command(1, sop_class, uid))) + b"".join(
        p_data(pdv(context, flag, piece)) for flag, piece in zip(flags, pieces, strict=True)
    )


def data_element(tag: int, vr: str, value: bytes) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in ("OB", "OW", "SQ", "UN"):
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def data_set(uid: str, study: str = "1.2.9", pixels: bytes = b"\1\2", patient: str = "P1") -> bytes:
    """Explicit VR little endian, what the node asks of an object and pixels."""
    return b"".join(
        (
            data_element(0x00080016, "UI", even(CT)),
            data_element(0x00080018, "UI", even(uid)),
            data_element(0x00080060, "CS", b"CT"),
            data_element(0x00100020, "LO", even(patient, b" ")),
            data_element(0x0020000D, "UI", even(study)),
            data_element(0x0020000E, "UI", even(study + ".1")),
            data_element(0x7FE00010, "OW", pixels),
        )
    )


@dataclass
class Peer:
    """One connection. ``all_open`` is what a fixture closes."""

    line: socket.socket
    all_open: ClassVar[list[socket.socket]] = []

    @classmethod
    def call(cls, port: int, timeout: float = 20.0) -> Peer:
        line = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cls.all_open.append(line)
        return cls(line)

    @classmethod
    def associated(cls, port: int, request: bytes = b"") -> Peer:
        peer = cls.call(port)
        peer.send(request or associate_rq())
        kind, _ = peer.pdu()
        assert kind == 2, f"PDU {kind} came in answer to the association request"
        return peer

    def send(self, data: bytes) -> None:
        self.line.sendall(data)

    def pdu(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; (0, b"") where the connection has ended."""
        head = self._exact(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxI", head)
        return kind, self._exact(length)

    def response(self) -> dict[int, bytes]:
        """The next command set, by element number."""
        kind, body = self.pdu()
        assert kind == 4, f"PDU {kind} {body.hex()} came in place of a response"
        values, at, data = {}, 0, body[6:]
        while at < len(data):
            _, number, length = struct.unpack_from("<HHI", data, at)
            values[number] = data[at + 8 : at + 8 + length]
            at += 8 + length
        return values

    def status(self) -> int:
        return int.from_bytes(self.response()[0x900], "little")

    def ended(self) -> tuple[int, int] | None:
        """Source and reason of the A-ABORT that ends the connection; None where it just ends."""
        kind, body = self.pdu()
        if kind != 7:
            assert kind == 0, f"PDU {kind} came in place of an abort"
            return None
        assert self.pdu()[0] == 0
        return body[2], body[3]

    def release(self) -> None:
        self.send(RELEASE_RQ)
        assert self.pdu() == (6, b"\0\0\0\0")
        self.close()

    def close(self) -> None:
        self.line.close()

    def _exact(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.line.recv(count - len(data))
            except ConnectionError:
                piece = b""
            if not piece:
                break
            data += piece
        return data
