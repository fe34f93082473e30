"""HL7 v2 receivers that we call, over MLLP (HL7 v2.5.1 appendix C, "Minimal Lower Layer Protocol"), with TLS where wished."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Final, Literal

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.tls import TlsFiles, client_context, tls_fault

START: Final = b"\x0b"
END: Final = b"\x1c\r"
MOST: Final = 1 << 20  # bytes of an acknowledgement; more is no acknowledgement
Charset = Literal["utf-8", "iso-8859-1"]
_CHARSETS: Final[dict[Charset, str]] = {"utf-8": "UNICODE UTF-8", "iso-8859-1": "8859/1"}  # table 0211
# Punctuation of ours that Latin-1 lacks, as it is typed without
_PLAIN_MARKS: Final = str.maketrans({"–": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "„": '"', "…": "...", "≥": ">="})


@dataclass(frozen=True, slots=True)
class Hl7Peer:
    """Where to send messages, and how they are addressed (MSH-5, MSH-6) and encoded there."""

    host: str
    port: int
    application: str = ""
    facility: str = ""
    charset: Charset = "utf-8"
    tls: TlsFiles | None = None
    timeout_s: float = 30

    def __str__(self) -> str:
        return f"mllp{'s' if self.tls else ''}://{self.host}:{self.port}"


def send(peer: Hl7Peer, message: bytes) -> str:
    """Send one message (UTF-8) and wait for its acknowledgement; returns the acknowledgement code, AA or CA.

    Raises PeerUnavailable where trying again may help: no connection, no acknowledgement in time, one of another message,
    AR (refused for reasons that are not the message's, table 0008). Raises PeerRefused for AE and for text that the receiver's
    character set does not have.
    """
    framed = START + _addressed(peer, message) + END
    deadline = time.monotonic() + peer.timeout_s
    try:
        with _connected(peer) as connection:
            connection.sendall(framed)
            answer = _receive(peer, connection, deadline)
    except OSError as error:
        raise PeerUnavailable(f"{peer}: {_why(error)}") from error
    return _judge(peer, answer, _control_id(message))


def reach(peer: Hl7Peer) -> None:
    """Connect and hang up, sending nothing: MLLP has no message that asks for a sign of life. Raises PeerUnavailable."""
    try:
        _connected(peer).close()
    except OSError as error:
        raise PeerUnavailable(f"{peer}: {_why(error)}") from error


def _connected(peer: Hl7Peer) -> socket.socket:
    context = client_context(peer, peer.tls) if peer.tls else None
    connection = socket.create_connection((peer.host, peer.port), timeout=peer.timeout_s)
    if context is None:
        return connection
    try:
        return context.wrap_socket(connection, server_hostname=peer.host)
    except OSError:
        connection.close()
        raise


def _receive(peer: Hl7Peer, connection: socket.socket, deadline: float) -> bytes:
    """The text of the first frame that comes; the whole wait ends at ``deadline``, however slowly bytes drip in."""
    held = bytearray()
    while END not in held:
        left = deadline - time.monotonic()
        if left <= 0:
            raise PeerUnavailable(f"{peer}: no acknowledgement within {peer.timeout_s:g} s")
        connection.settimeout(left)
        part = connection.recv(65536)
        held += part
        if not part or len(held) > MOST:
            what = "hung up without an acknowledgement" if not part else "answered with more than an acknowledgement"
            raise PeerUnavailable(f"{peer}: {what}")
    begin = held.find(START)
    return bytes(held[begin + 1 : held.index(END)])


def _judge(peer: Hl7Peer, answer: bytes, sent: str) -> str:
    segments = [line.split("|") for line in answer.decode("utf-8", "replace").replace("\n", "\r").split("\r") if line]
    found = next((fields for fields in segments if fields[0] == "MSA"), [])
    code, control = [*found, "", "", ""][1:3]
    if control != sent or code not in ("AA", "CA", "AE", "CE", "AR", "CR"):
        raise PeerUnavailable(f"{peer}: its answer acknowledges another message, or none")
    if code in ("AA", "CA"):
        return code
    errors = [f"{_field(fields, 3)} at {_field(fields, 2)}" for fields in segments if fields[0] == "ERR"]
    said = f"{peer}: answered {code}" + (f" ({'; '.join(errors[:3])})" if errors else "")
    raise PeerUnavailable(said) if code in ("AR", "CR") else PeerRefused(said)


def _field(fields: list[str], number: int) -> str:
    """A code or place of an ERR segment; never its texts (ERR-7, ERR-8), which may repeat patient data."""
    value = fields[number] if len(fields) > number else ""
    return value.split("^")[0][:20] if number == 3 else value[:40] or "?"


def _addressed(peer: Hl7Peer, message: bytes) -> bytes:
    header, _, rest = message.decode("utf-8").partition("\r")
    fields = header.split("|")
    fields += [""] * (18 - len(fields))
    fields[4], fields[5], fields[17] = peer.application, peer.facility, _CHARSETS[peer.charset]
    text = f"{'|'.join(fields)}\r{rest}"
    try:
        return (text if peer.charset == "utf-8" else text.translate(_PLAIN_MARKS)).encode(peer.charset)
    except UnicodeEncodeError as error:
        raise PeerRefused(
            f"{peer}: the message holds characters that {peer.charset} does not have; set charset: utf-8"
        ) from error


def _control_id(message: bytes) -> str:
    return message.split(b"\r", 1)[0].decode("utf-8").split("|")[9]


def _why(error: Exception) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else tls_fault(error)
