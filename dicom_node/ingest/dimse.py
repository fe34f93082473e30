"""DIMSE commands: the command set in, the response out (PS3.7 6.3 and 9.3).

A command set is implicit VR little endian, group 0000, in order of its tags, whatever was negotiated for data sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct, pack, unpack_from

N_EVENT_REPORT = 0x0100
C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO, C_CANCEL = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0FFF  # PS3.7 E.1-1
RESPONSE = 0x8000
MAX_COMMAND = 16384  # bytes; a C-STORE request has less than 400

SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 C.5.6
UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 C.5.9
_KNOWN = {C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO, N_EVENT_REPORT, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150}

_AFFECTED_CLASS, _REQUESTED_CLASS = 0x0002, 0x0003
_FIELD, _MESSAGE_ID, _DATA_SET_TYPE = 0x0100, 0x0110, 0x0800
_AFFECTED_INSTANCE = 0x1000
_NO_DATA_SET = 0x0101
_ELEMENT = Struct("<HHL")


class Malformed(Exception):  # noqa: N818
    """The bytes are no command set; the message says where they fail."""


@dataclass(frozen=True, slots=True)
class Command:
    """A request. ``field``: Command Field (0000,0100). UIDs are empty where absent. ``elements``: all of the command set."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_uid: str
    elements: Mapping[int, bytes] = dataclasses.field(default_factory=dict, repr=False, compare=False)


def decode(data: bytes) -> Command:
    """Raises Malformed."""
    values = elements(data)
    if _FIELD not in values:
        raise Malformed("the command has no Command Field (0000,0100)")
    field = unsigned(values, _FIELD)
    if field & RESPONSE:
        raise Malformed(f"a response (0x{field:04X}) came where nothing had been asked")
    if field == C_CANCEL:
        return Command(field, 0, False, "", "")
    has_data_set = unsigned(values, _DATA_SET_TYPE) != _NO_DATA_SET
    sop_class = values.get(_AFFECTED_CLASS, values.get(_REQUESTED_CLASS, b""))
    return Command(
        field, unsigned(values, _MESSAGE_ID), has_data_set, _uid(sop_class), _uid(values.get(_AFFECTED_INSTANCE, b"")), values
    )


def refusal(field: int) -> int:
    """The status for an operation that the node does not perform."""
    return SOP_CLASS_NOT_SUPPORTED if field in _KNOWN else UNRECOGNIZED_OPERATION


def response(command: Command, status: int, comment: str = "") -> bytes:
    """The command set of the response to a request. ``comment``: Error Comment, at most 64 characters (VR LO)."""
    parts = [
        _string(_AFFECTED_CLASS, command.sop_class_uid, b"\0", 64),
        pack("<HHLHHHLHHHLHHHLH", 0, _FIELD, 2, command.field | RESPONSE, 0, 0x0120, 2, command.message_id,
             0, _DATA_SET_TYPE, 2, _NO_DATA_SET, 0, 0x0900, 2, status),
        _string(0x0902, comment, b" ", 64),
        _string(_AFFECTED_INSTANCE, command.sop_uid, b"\0", 64),
    ]  # fmt: skip
    group = b"".join(parts)
    return pack("<HHLL", 0, 0, 4, len(group)) + group


def encode(values: Mapping[int, bytes]) -> bytes:
    """A command set of these elements (element number of group 0000 → value of even length), with its group length."""
    group = b"".join(_ELEMENT.pack(0, number, len(value)) + value for number, value in sorted(values.items()))
    return pack("<HHLL", 0, 0, 4, len(group)) + group


def padded(text: str, padding: bytes = b"\0", limit: int = 64) -> bytes:
    """A value of VR UI, or of AE or LO with a space as ``padding``; characters that it cannot have become "?"."""
    value = text.encode("ascii", "replace")[:limit]
    return value + padding * (len(value) % 2)


def elements(data: bytes) -> dict[int, bytes]:
    """Element number of group 0000 → value. Raises Malformed."""
    values: dict[int, bytes] = {}
    at, last = 0, -1
    while at < len(data):
        if at + 8 > len(data):
            raise Malformed("the command ends in the middle of an element")
        group, number, length = _ELEMENT.unpack_from(data, at)
        at += 8
        if group or number <= last:
            raise Malformed(f"the command has element ({group:04X},{number:04X}) out of place")
        if at + length > len(data):
            raise Malformed(f"the command ends in the middle of element (0000,{number:04X})")
        values[number] = data[at : at + length]
        at, last = at + length, number
    return values


def unsigned(values: Mapping[int, bytes], number: int) -> int:
    """A value of VR US. Raises Malformed."""
    value = values.get(number, b"")
    if len(value) != 2:
        raise Malformed(f"the command has no usable element (0000,{number:04X})")
    found: int = unpack_from("<H", value)[0]
    return found


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")


def _string(number: int, text: str, padding: bytes, limit: int) -> bytes:
    if not text:
        return b""
    value = padded(text, padding, limit)
    return _ELEMENT.pack(0, number, len(value)) + value
