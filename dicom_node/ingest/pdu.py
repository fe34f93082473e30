"""PDUs of an established association (PS3.8 9.3): those that the node sends, and the faults it answers with A-ABORT."""

from __future__ import annotations

from struct import Struct, pack

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
HEADER = Struct(">BxL")  # type, reserved, length of what follows
ITEM = Struct(">LBB")  # PDV item: length, context ID, message control header (PS3.8 9.3.5.1, E.2)
DATA_AND_ITEM = Struct(">BxLLBB")  # a P-DATA-TF as most are: one item in it
COMMAND, LAST = 1, 2  # bits of the message control header

SERVICE_USER, SERVICE_PROVIDER = 0, 2  # sources of an A-ABORT (PS3.8 9.3.8)
UNSPECIFIED, UNRECOGNIZED, UNEXPECTED, UNEXPECTED_PARAMETER, INVALID_PARAMETER = 0, 1, 2, 5, 6  # its reasons

RELEASE_RESPONSE = pack(">BxL4x", RELEASE_RP, 4)
RELEASE_REQUEST = pack(">BxL4x", RELEASE_RQ, 4)


class Fault(Exception):  # noqa: N818
    """The peer breaks the protocol, or the node ends the association: it is aborted with this source and reason."""

    def __init__(self, text: str, reason: int = UNSPECIFIED, source: int = SERVICE_PROVIDER) -> None:
        super().__init__(text)
        self.reason = reason
        self.source = source


def abort(source: int, reason: int) -> bytes:
    """A-ABORT; the reason counts only where the provider is the source."""
    return pack(">BxL2xBB", ABORT, 4, source, reason if source == SERVICE_PROVIDER else 0)


def reject(result: int, source: int, reason: int) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return pack(">BxLxBBB", ASSOCIATE_RJ, 4, result, source, reason)


def data(context_id: int, piece: bytes, last: bool) -> bytes:
    """A piece of a data set as a P-DATA-TF PDU."""
    head = DATA_AND_ITEM.pack(DATA, len(piece) + ITEM.size, len(piece) + 2, context_id, LAST if last else 0)
    return head + piece


def command(context_id: int, data: bytes, most: int) -> bytes:
    """A command set as P-DATA-TF PDUs. ``most``: bytes the peer takes in one, without its header; 0: any number."""
    step = len(data) if most == 0 else max(most - 6, 1)
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    flags = [COMMAND] * (len(parts) - 1) + [COMMAND | LAST]
    return b"".join(
        HEADER.pack(DATA, len(part) + 6) + ITEM.pack(len(part) + 2, context_id, flag) + part
        for part, flag in zip(parts, flags, strict=True)
    )
