"""Explicit VR little endian bytes (PS3.5 7.1.2), for what is too much to build as pydicom data sets: content trees, evidence.

A tree of 20 findings is some 800 nested data sets; as bytes it costs a tenth. What is put together here is read again, as a
whole, by the gate.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from typing import Final

from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from inference.reading import Code
from reporting.clean import LIMITS, one_line

_LONG: Final = struct.Struct("<HH2s2xI")  # OB, OW, SQ, UC, UN, UT …: two reserved bytes and a length of four (PS3.5 7.1.2)
_SHORT: Final = struct.Struct("<HH2sH")
_ITEM: Final = struct.Struct("<HHI")
_LONG_VRS: Final = frozenset({b"SQ", b"UC", b"UR", b"UT"})


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element; ``value`` is padded to an even length (PS3.5 6.2). Raises struct.error where it is too long for its VR."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    layout = _LONG if vr in _LONG_VRS else _SHORT
    return layout.pack(tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def text(tag: int, vr: bytes, value: str) -> bytes:
    """A text element in UTF-8 (ISO_IR 192)."""
    return element(tag, vr, value.encode("utf-8"))


def sequence(tag: int, items: Iterable[bytes]) -> bytes:
    """A sequence of data sets, each with its length."""
    return element(tag, b"SQ", b"".join(_ITEM.pack(0xFFFE, 0xE000, len(item)) + item for item in items))


def raw_sequence(tag: int, items: Iterable[bytes]) -> RawDataElement:
    """The same as an element of a pydicom data set, which reads it where it is asked for."""
    value = sequence(tag, items)[_LONG.size :]
    return RawDataElement(BaseTag(tag), "SQ", len(value), value, 0, False, True)


@cache
def code(found: Code) -> bytes:
    """An item of a code sequence (PS3.3 section 8)."""
    value = one_line(found.value)
    short = len(value) <= LIMITS["SH"]
    urn = not short and (value.startswith("urn") or "://" in value)
    parts = (
        text(0x00080100, b"SH", value) if short else b"",
        text(0x00080102, b"SH", one_line(found.scheme, 16)),
        text(0x00080104, b"LO", one_line(found.meaning, 64)),
        b"" if short or urn else text(0x00080119, b"UC", value),
        text(0x00080120, b"UR", value) if urn else b"",
    )
    return b"".join(parts)


def reference(sop_class_uid: str, sop_instance_uid: str, frame_number: int | None = None) -> bytes:
    """An item of a Referenced SOP Sequence (PS3.3 table 10-11)."""
    frame = text(0x00081160, b"IS", str(frame_number)) if frame_number is not None else b""
    return text(0x00081150, b"UI", sop_class_uid) + text(0x00081155, b"UI", sop_instance_uid) + frame
