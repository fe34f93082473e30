"""What HL7 v2 says of anybody's messages: delimiters, segments, required fields, data types, character set.

No code of a table that users may extend is judged, and no field that only a version's profile requires.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from reporting.conformance import hl7_tables as tables
from reporting.context import Fault

_START: Final = re.compile(rb"(?:\A|[\r\n\x0b\x1c])(?=MSH[^A-Za-z0-9\s])")
_ENVELOPE: Final = re.compile(r"(FHS|BHS|BTS|FTS)[^A-Za-z0-9\s]?.*")  # files and batches of messages (2.5.1 2.10.3)
_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_TIME: Final = re.compile(
    r"\d{4}((0[1-9]|1[0-2])((0[1-9]|[12]\d|3[01])(([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,4})?)?)?)?)?)?([+-]\d{4})?"
)
_CLOCK: Final = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,4})?)?)?([+-]\d{4})?")
_NUMBER: Final = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)\s*")
_NULL: Final = '""'  # "delete what you have" (2.5.1 2.5.3)
_CONTROL_ID_2_5_1: Final = 20  # characters
_LAST_ORDERED: Final = (2, 6)
_RECENT: Final = (2, 4)


@dataclass(frozen=True, slots=True)
class _Message:
    """``segments``: fields by the standard's numbers, MSH-1 being the field separator itself."""

    segments: tuple[tuple[str, ...], ...]
    component: str
    repetition: str

    @property
    def header(self) -> tuple[str, ...]:
        return self.segments[0]

    @property
    def version(self) -> tuple[int, ...]:
        """(2, 5, 1); (2, 5, 1) too where MSH-12 names no version."""
        named = _field(self.header, 12).split(self.component)[0]
        return tuple(map(int, named.split("."))) if named in tables.VERSIONS else (2, 5, 1)


def is_message(content: bytes) -> bool:
    """Whether the bytes begin as a message, a frame of MLLP, or a file or batch of messages."""
    head = content[:64].lstrip(b"\x0b\r\n\xef\xbb\xbf")
    return re.match(rb"(MSH|FHS|BHS)[^A-Za-z0-9\s]", head) is not None


def split_messages(content: bytes) -> tuple[bytes, ...]:
    """The messages that the bytes hold, without the frames of MLLP and without what stands before the first."""
    starts = [found.end() for found in _START.finditer(content)]
    ends = [*starts[1:], len(content)] if starts else []
    return tuple(content[start:end].split(b"\x1c")[0].rstrip(b"\x0b") for start, end in zip(starts, ends, strict=True))


def message_faults(content: bytes) -> tuple[Fault, ...]:
    """Each rule of the standard that one message breaks, each once; no value of the message in the texts. Never raises."""
    return tuple(dict.fromkeys(_faults(content)))


def _faults(content: bytes) -> Iterator[Fault]:
    delimiters = content[3:8].decode("latin-1").split(chr(content[3]) if len(content) > 3 else "|")
    encoding = delimiters[1] if len(delimiters) > 1 else ""
    marks = chr(content[3]) + encoding if len(content) > 3 else ""
    if not content.startswith(b"MSH") or len(encoding) < 2 or len(set(marks)) != len(marks) or any(map(str.isalnum, marks)):
        yield Fault("hl7-delimiters", "HL7 v2.5.1 2.5.4", "MSH-1 and MSH-2 do not name five different delimiters")
        return
    yield from _ends(content)
    message = _parsed(content, marks)
    yield from _charset(content, message)
    for segment in message.segments:
        yield from _segment(segment, message)
    yield from _header(message)
    yield from _order(message)


def _parsed(content: bytes, marks: str) -> _Message:
    """Decoded first: the second byte of a Chinese or Korean character may look like a delimiter."""
    header = _fields(re.split(r"[\r\n]", content.decode("latin-1"), maxsplit=1)[0], marks[0])
    codec = tables.CHARACTER_SETS.get(_field(header, 18).split(marks[2])[0]) or "latin-1"
    text = content.decode(codec, "replace").replace("\r\n", "\r")
    lines = [line.strip("\n") for line in text.split("\r" if "\r" in text else "\n")]
    kept = [line for line in lines if line and not _ENVELOPE.fullmatch(line)]
    return _Message(tuple(_fields(line, marks[0]) for line in kept), marks[1], marks[2])


def _fields(line: str, separator: str) -> tuple[str, ...]:
    fields = line.split(separator)
    return (fields[0], separator, *fields[1:]) if fields[0] == "MSH" else tuple(fields)


def _field(segment: tuple[str, ...], number: int) -> str:
    return segment[number] if len(segment) > number else ""


def _ends(content: bytes) -> Iterator[Fault]:
    if b"\n" in content:
        yield Fault(
            "hl7-terminator", "HL7 v2.5.1 2.5.1", "line feeds stand in the message; a segment ends with a carriage return"
        )
    elif not content.endswith(b"\r"):
        yield Fault("hl7-terminator", "HL7 v2.5.1 2.5.1", "the last segment has no carriage return")


def _charset(content: bytes, message: _Message) -> Iterator[Fault]:
    named = _field(message.header, 18).split(message.repetition)
    unknown = [name for name in named if name not in tables.CHARACTER_SETS]
    if unknown:
        yield Fault("hl7-charset", "HL7 v2.5.1 2.15.9.18, table 0211", "MSH-18 names no character set of the table")
    codec = None if unknown or len(named) > 1 else tables.CHARACTER_SETS[named[0]]
    try:
        content.decode(codec or "latin-1")
    except UnicodeDecodeError:
        said = (
            f"the bytes are not the {named[0]} that MSH-18 names"
            if named[0]
            else "MSH-18 names no character set, yet not all is ASCII"
        )
        yield Fault("hl7-charset", "HL7 v2.5.1 2.15.9.18", said)


def _segment(segment: tuple[str, ...], message: _Message) -> Iterator[Fault]:
    name = segment[0]
    if not _SEGMENT.fullmatch(name):
        yield Fault("hl7-segment", "HL7 v2.5.1 2.6", "a line does not begin with a segment's name")
        return
    required = tables.REQUIRED if message.version >= _RECENT else tables.REQUIRED_BEFORE_2_4
    for number in required.get(name, ()):
        if not _field(segment, number):
            yield Fault("hl7-required", "HL7 v2.5.1 2.14 and 7.4", f"{name}-{number} is empty")
    for number in tables.TIMES.get(name, ()):
        if not all(_is(_TIME, part, message) for part in _field(segment, number).split(message.repetition)):
            yield Fault("hl7-time", "HL7 v2.5.1 2.A.22", f"{name}-{number} is no date and time")
    if name in tables.SET_IDS and not (_field(segment, 1) or "0").isdecimal():
        yield Fault("hl7-set-id", "HL7 v2.5.1 2.A.70", f"{name}-1 is no sequence number")
    for place, number, table, codes in tables.CODES:
        code = _field(segment, number).split(message.component)[0]
        if place == name and code and code not in codes:
            yield Fault("hl7-code", f"HL7 v2.5.1 table {table}", f"{name}-{number} is no code of the table")
    if name == "OBX":
        yield from _value(segment, message)


def _value(segment: tuple[str, ...], message: _Message) -> Iterator[Fault]:
    kind, value = _field(segment, 2), _field(segment, 5)
    if value and not kind:
        yield Fault("hl7-value-type", "HL7 v2.5.1 7.4.2.2", "OBX-5 has a value, OBX-2 no type")
    if kind and kind not in tables.VALUE_TYPES:
        yield Fault("hl7-value-type", "HL7 v2.5.1 7.4.2.2, table 0125", "OBX-2 is no type of the table")
    form = {"NM": _NUMBER, "TM": _CLOCK, "TS": _TIME, "DT": _TIME, "DTM": _TIME}.get(kind)
    if form is not None and not all(_is(form, part, message) for part in value.split(message.repetition)):
        yield Fault("hl7-value", "HL7 v2.5.1 7.4.2.5", f"a value of type {kind} is none")


def _is(form: re.Pattern[str], value: str, message: _Message) -> bool:
    first = value.split(message.component)[0]
    return first in ("", _NULL) or form.fullmatch(first) is not None


def _header(message: _Message) -> Iterator[Fault]:
    version = _field(message.header, 12).split(message.component)[0]
    if version and version not in tables.VERSIONS:
        yield Fault("hl7-version", "HL7 v2.5.1 2.15.9.12, table 0104", "MSH-12 names no version of the standard")
    elif message.version <= (2, 5, 1) and len(_field(message.header, 10)) > _CONTROL_ID_2_5_1:
        yield Fault("hl7-control-id", "HL7 v2.5.1 2.15.9.10", f"MSH-10 is longer than {_CONTROL_ID_2_5_1} characters")


def _order(message: _Message) -> Iterator[Fault]:
    names = [segment[0] for segment in message.segments if not segment[0].startswith("Z")]
    code = _field(message.header, 9).split(message.component)[0]
    order = tables.ORDERS.get(code) if message.version < _LAST_ORDERED else None
    if order is not None and not order.fullmatch(" ".join(names)):
        yield Fault("hl7-structure", "HL7 v2.5.1 7.3.1 and 2.14.1", f"the segments are not those of {code}, in their order")
    elif order is None and names.count("MSH") != 1:
        yield Fault("hl7-structure", "HL7 v2.5.1 2.14", "a message has one MSH")
