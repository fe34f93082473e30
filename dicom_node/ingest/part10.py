"""The head of a Part 10 file, written by hand: preamble and File Meta Information (PS3.10 7.1)."""

from __future__ import annotations

from functools import lru_cache
from struct import pack

IMPLEMENTATION_CLASS_UID = "2.25.187253094872638194640135212530953290627"
IMPLEMENTATION_VERSION = "WETREAD"
_PREAMBLE = bytes(128) + b"DICM"


def file_head(sop_class_uid: str, sop_uid: str, transfer_syntax: str, source_ae: str) -> bytes:
    """Everything that comes before the data set; its length is the data set's offset."""
    before, after = _around(sop_class_uid, transfer_syntax, source_ae)
    own = _uid(0x0003, sop_uid)
    length = _element(0x0000, b"UL", pack("<L", len(before) + len(own) + len(after)))
    return b"".join((_PREAMBLE, length, before, own, after))


@lru_cache(maxsize=256)
def _around(sop_class_uid: str, transfer_syntax: str, source_ae: str) -> tuple[bytes, bytes]:
    """The group's elements before and after the SOP Instance UID: the same for each object of an association."""
    before = _long_element(0x0001, b"OB", b"\x00\x01") + _uid(0x0002, sop_class_uid)
    after = (
        _uid(0x0010, transfer_syntax),
        _uid(0x0012, IMPLEMENTATION_CLASS_UID),
        _element(0x0013, b"SH", _even(IMPLEMENTATION_VERSION, b" ", 16)),
        _element(0x0016, b"AE", _even(source_ae, b" ", 16)),
    )
    return before, b"".join(after)


def _uid(number: int, uid: str) -> bytes:
    return _element(number, b"UI", _even(uid, b"\0", 64))


def _even(text: str, padding: bytes, limit: int) -> bytes:
    """Characters that no UID or AE title has become "?": the peer chose them, and the data set is refused later."""
    value = text.encode("ascii", "replace")[:limit]
    return value + padding * (len(value) % 2)


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    return pack("<HH2sH", 0x0002, number, vr, len(value)) + value


def _long_element(number: int, vr: bytes, value: bytes) -> bytes:
    return pack("<HH2sHL", 0x0002, number, vr, 0, len(value)) + value
