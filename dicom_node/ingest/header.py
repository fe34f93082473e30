"""The few attributes of a received data set that its row needs, read without touching the rest.

Only the top level is walked, up to Requested Procedure Priority; sequences are stepped over. Memory does not grow with the
object, and whatever the bytes are, the answer is a header or ``Unreadable``.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from struct import Struct

DEFLATED = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}  # PS3.5 A.5, A.6, and JPIP HTJ2K
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

SOP_CLASS, SOP_INSTANCE, ACCESSION, MODALITY = 0x00080016, 0x00080018, 0x00080050, 0x00080060
PATIENT_NAME, PATIENT_ID, BIRTH_DATE, SEX = 0x00100010, 0x00100020, 0x00100030, 0x00100040
BODY_PART = 0x00180015
STUDY, SERIES = 0x0020000D, 0x0020000E
PRIORITY = 0x00401003
_TOLD = (SOP_CLASS, SOP_INSTANCE, STUDY, SERIES, PATIENT_ID, MODALITY, BODY_PART, PRIORITY)
IDENTITY = (PATIENT_NAME, BIRTH_DATE, SEX, ACCESSION)  # what all instances of a study should agree in, besides Patient ID
WANTED = frozenset((*_TOLD, *IDENTITY))

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD  # PS3.5 7.5
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}  # PS3.5 7.1.2
_VRS = _LONG_VRS | {b"AEASATCSDADSDTFDFLISLOLTPNSHSLSSSTTMUIULUS"[at : at + 2] for at in range(0, 42, 2)}  # PS3.5 6.2
_HEAD, _LONG = Struct("<HH2sH"), Struct("<L")
_MAX_VALUE = 1024  # bytes; every wanted value has at most 64 characters
_MAX_DEPTH = 64  # of nested sequences
_MAX_INFLATED = 16 << 20  # bytes of a deflated data set looked at
_MOST_KINDS = 256  # of objects, whose layout is remembered


class Unreadable(Exception):  # noqa: N818
    """The bytes are not a data set of the negotiated transfer syntax; the message says where they fail."""


@dataclass(frozen=True, slots=True)
class Header:
    """Values as sent, without padding; empty where absent. ``identity``: raw values of the attributes ``IDENTITY``."""

    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str
    patient_id: str
    modality: str
    body_part: str
    requested_priority: str
    identity: tuple[bytes, ...] = field(default=(), compare=False, repr=False)


class Headers:
    """Headers from the first bytes of data sets; of objects made alike, as those of a series are, almost for nothing."""

    def __init__(self) -> None:
        self._known: dict[object, _Layout | tuple[int, ...]] = {}

    def of_start(self, start: bytes, transfer_syntax: str, kind: object) -> Header | None:
        """As ``header_of_start``. ``kind``: what objects made alike have in common, such as their sender and SOP class."""
        known = self._known.get(kind)
        if isinstance(known, _Layout) and (header := known.read(start, transfer_syntax)) is not None:
            return header
        walked = _walk_start(start, transfer_syntax)
        if walked is None:
            return None
        values, places = walked
        while len(self._known) >= _MOST_KINDS:
            self._known.pop(next(iter(self._known)), None)
        self._known[kind] = _Layout(start, transfer_syntax, places) if known == places else places
        return _header(values)


class _Layout:
    """Where the elements of a data set begin. One with the same element headers at the same places has the same layout."""

    def __init__(self, start: bytes, transfer_syntax: str, places: tuple[int, ...]) -> None:
        explicit = start[4:6] in _VRS
        heads = [12 if explicit and start[at + 4 : at + 6] in _LONG_VRS else 8 for at in places]
        gaps = [after - at - head for (at, after), head in zip(pairwise(places), heads, strict=False)]
        self._transfer_syntax = transfer_syntax
        self._heads = Struct("<" + "".join(f"{head}s{gap}x" for head, gap in zip(heads, gaps, strict=False)) + "8s")
        self._expected = self._heads.unpack_from(start)
        values = {tag: (at, end) for tag, at, end in _wanted(start, places, heads)}
        self._values = [slice(*values.get(tag, (0, 0))) for tag in _TOLD]
        self._identity = [slice(*values.get(tag, (0, 0))) for tag in IDENTITY]

    def read(self, start: bytes, transfer_syntax: str) -> Header | None:
        if transfer_syntax != self._transfer_syntax or len(start) < self._heads.size:
            return None
        if self._heads.unpack_from(start) != self._expected:
            return None
        return _made([start[one] for one in self._values], tuple([start[one] for one in self._identity]))


def _wanted(start: bytes, places: tuple[int, ...], heads: list[int]) -> Iterator[tuple[int, int, int]]:
    """Tag, beginning and end of the wanted values."""
    for (at, end), head in zip(pairwise(places), heads, strict=False):
        group, number, _, _ = _HEAD.unpack_from(start, at)
        if group << 16 | number in WANTED:
            yield group << 16 | number, at + head, end


def header_of_start(start: bytes, transfer_syntax: str) -> Header | None:
    """The header from the first bytes of a data set, or None where they do not tell and the file must be read.

    The quick way for the images that make up the load: little endian, nothing of undefined length before the attributes.
    """
    walked = _walk_start(start, transfer_syntax)
    return None if walked is None else _header(walked[0])


def _walk_start(start: bytes, transfer_syntax: str) -> tuple[dict[int, bytes], tuple[int, ...]] | None:
    """The wanted values, and where each element begins, up to the first that comes after all that are wanted."""
    if transfer_syntax in DEFLATED or transfer_syntax == BIG_ENDIAN:
        return None
    values: dict[int, bytes] = {}
    places: list[int] = []
    explicit, at, end = start[4:6] in _VRS, 0, len(start)
    while at + 12 <= end:
        group, number, vr, length = _HEAD.unpack_from(start, at)
        tag, value_at = group << 16 | number, at + 8
        if not explicit:
            length = _LONG.unpack_from(start, at + 4)[0]
        elif vr in _LONG_VRS:
            length, value_at = _LONG.unpack_from(start, at + 8)[0], at + 12
        elif vr not in _VRS:
            return None
        places.append(at)
        if tag > PRIORITY:
            return values, tuple(places)
        at = value_at + length
        if length == _UNDEFINED or (tag in WANTED and (length > _MAX_VALUE or at > end)):
            return None
        if tag in WANTED:
            values[tag] = start[value_at:at]
    return None


def read_header(path: str | Path, offset: int, transfer_syntax: str) -> Header:
    """Read the header of the data set that begins at ``offset`` (bytes) of a file. Raises Unreadable."""
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if transfer_syntax in DEFLATED:
            return header_of(_inflate(data, offset), 0, transfer_syntax)
        return header_of(data, offset, transfer_syntax)


def header_of(data: bytes | mmap.mmap, offset: int, transfer_syntax: str) -> Header:
    """As ``read_header``, of a data set in memory that is not deflated."""
    return _header(dict(_walk(data, offset, transfer_syntax)))


def _header(values: dict[int, bytes]) -> Header:
    return _made([values.get(tag, b"") for tag in _TOLD], tuple(values.get(tag, b"") for tag in IDENTITY))


def _made(told: list[bytes], identity: tuple[bytes, ...]) -> Header:
    sop_class, sop, study, series, _, modality, body_part, priority = [_text(value) for value in told]
    patient = _distinct(told[_TOLD.index(PATIENT_ID)])
    return Header(sop_class, sop, study, series, patient, modality, body_part, priority, identity)


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    vr: bytes
    length: int
    value_at: int


class _Encoding:
    """How element headers are laid out: PS3.5 7.1.2 (explicit) or 7.1.3 (implicit)."""

    def __init__(self, explicit: bool, little: bool) -> None:
        order = "<" if little else ">"
        self.explicit = explicit
        self._tag, self._short, self._long = Struct(order + "HH"), Struct(order + "H"), Struct(order + "L")

    def element_at(self, data: bytes | mmap.mmap, at: int) -> _Element:
        if at + 8 > len(data):
            raise Unreadable(f"it ends in the middle of an element, at byte {at}")
        group, number = self._tag.unpack_from(data, at)
        tag = group << 16 | number
        if not self.explicit or group == 0xFFFE:
            return _Element(tag, b"", self._long.unpack_from(data, at + 4)[0], at + 8)
        vr = bytes(data[at + 4 : at + 6])
        if not (vr.isalpha() and vr.isupper()):
            raise Unreadable(f"element ({group:04X},{number:04X}) has no value representation")
        return self._explicit(data, at, tag, vr)

    def _explicit(self, data: bytes | mmap.mmap, at: int, tag: int, vr: bytes) -> _Element:
        if vr not in _LONG_VRS:
            return _Element(tag, vr, self._short.unpack_from(data, at + 6)[0], at + 8)
        if at + 12 > len(data):
            raise Unreadable(f"it ends in the middle of an element, at byte {at}")
        return _Element(tag, vr, self._long.unpack_from(data, at + 8)[0], at + 12)


_IMPLICIT_LITTLE = _Encoding(explicit=False, little=True)


def _walk(data: bytes | mmap.mmap, offset: int, transfer_syntax: str) -> Iterator[tuple[int, bytes]]:
    """The wanted elements of the top level, in order."""
    encoding, at = _encoding_of(data, offset, transfer_syntax), offset
    while at < len(data):
        element = encoding.element_at(data, at)
        if element.tag > PRIORITY:
            return
        if element.length == _UNDEFINED:
            at = _past_sequence(data, element, encoding)
            continue
        at = _end_of(data, element)
        if element.tag in WANTED:
            if element.length > _MAX_VALUE:
                raise Unreadable(f"element {_name(element.tag)} has {element.length} bytes")
            yield element.tag, bytes(data[element.value_at : at])


def _encoding_of(data: bytes | mmap.mmap, offset: int, transfer_syntax: str) -> _Encoding:
    """Some senders label implicit data sets explicit or the other way round: the first element tells (as pydicom reads it)."""
    if transfer_syntax == BIG_ENDIAN:
        return _Encoding(explicit=True, little=False)
    vr = bytes(data[offset + 4 : offset + 6])
    return _Encoding(explicit=vr.isalpha() and vr.isupper(), little=True)


def _past_sequence(data: bytes | mmap.mmap, opening: _Element, encoding: _Encoding) -> int:
    """Where the element after a sequence of undefined length begins."""
    stack, at = [_inside(opening, encoding)], opening.value_at
    while stack:
        element = stack[-1].element_at(data, at)
        at = element.value_at
        if element.tag in (_ITEM_END, _SEQUENCE_END):
            stack.pop()
        elif element.length == _UNDEFINED:
            stack.append(_inside(element, stack[-1]))
        else:
            at = _end_of(data, element)
        if len(stack) > _MAX_DEPTH:
            raise Unreadable(f"sequence {_name(opening.tag)} is nested deeper than {_MAX_DEPTH}")
    return at


def _inside(element: _Element, around: _Encoding) -> _Encoding:
    """A value of unknown VR and undefined length is implicit little endian inside (PS3.5 6.2.2, note 5)."""
    return _IMPLICIT_LITTLE if element.vr == b"UN" else around


def _end_of(data: bytes | mmap.mmap, element: _Element) -> int:
    end = element.value_at + element.length
    if end > len(data):
        raise Unreadable(f"it ends in the middle of element {_name(element.tag)}")
    return end


def _inflate(data: mmap.mmap, offset: int) -> bytes:
    """The beginning of a deflated data set (PS3.5 A.5); no more than is looked at."""
    inflater, out, at = zlib.decompressobj(-zlib.MAX_WBITS), b"", offset
    try:
        while at < len(data) and len(out) < _MAX_INFLATED and not inflater.eof:
            out += inflater.decompress(data[at : at + 65536], _MAX_INFLATED)
            at += 65536
    except zlib.error as error:
        raise Unreadable("it is not deflated as negotiated") from error
    return out


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")


def _distinct(value: bytes) -> str:
    """Other bytes are another text: of two patients whose IDs differ only beyond ASCII (PS3.5 6.1.2), too."""
    return value.decode("latin-1").strip(" \0")


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
