"""What a compressed frame says of itself, read before any decoder reserves memory for it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_J2K_START, _J2K_SIZE = b"\xff\x4f\xff\x51", 0x51
_JP2_BOX = b"\x00\x00\x00\x0cjP"
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # ISO/IEC 10918-1 table B.1, 14495-1 for F7
_TRAILING = 64  # padding and stray bytes that senders leave after the end marker
_RGB_IDS = ((82, 71, 66), (114, 103, 98))  # component identifiers "RGB" and "rgb"


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size as coded.

    ``ended``: the end marker is there. ``signed``: JPEG 2000 only. ``applications``: APPn payloads by n (JPEG only).
    """

    rows: int
    columns: int
    components: int
    precision: int
    ended: bool
    signed: bool = False
    component_ids: tuple[int, ...] = ()
    applications: dict[int, bytes] = field(default_factory=dict)

    def is_ybr(self, photometric: str) -> bool:
        """Whether colour is coded as YCbCr: the stream's own marks win over the data set's photometric interpretation."""
        if self.component_ids in _RGB_IDS:
            return False
        if self.applications.get(0, b"").startswith(b"JFIF"):
            return True
        adobe = self.applications.get(14, b"")
        if adobe.startswith(b"Adobe") and len(adobe) >= 12:
            return adobe[11] == 1
        return photometric.startswith("YBR")


def parse(data: bytes) -> Codestream | None:
    """The stream's own size, or None where it is neither JPEG, JPEG-LS nor JPEG 2000, or is damaged before its size."""
    try:
        if data.startswith(_SOI):
            return _parse_jpeg(data)
        if data.startswith((_J2K_START, _JP2_BOX)):
            return _parse_jpeg2000(data)
    except (IndexError, struct.error):
        return None
    return None


def _ended(data: bytes) -> bool:
    return _EOI in data[-_TRAILING:]


def _parse_jpeg(data: bytes) -> Codestream | None:
    applications: dict[int, bytes] = {}
    at = 2
    while True:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if marker in _START_OF_FRAME:
            return _jpeg_frame(data, at + 4, applications)
        if 0xE0 <= marker <= 0xEF:
            applications.setdefault(marker - 0xE0, data[at + 4 : at + 2 + length])
        at += 2 + length


def _jpeg_frame(data: bytes, at: int, applications: dict[int, bytes]) -> Codestream:
    precision, rows, columns, components = struct.unpack(">BHHB", data[at : at + 6])
    ids = tuple(data[at + 6 + 3 * index] for index in range(components))
    return Codestream(rows, columns, components, precision, _ended(data), component_ids=ids, applications=applications)


def _parse_jpeg2000(data: bytes) -> Codestream | None:
    """SIZ marker segment, ISO/IEC 15444-1 A.5.1."""
    at = data.find(_J2K_START)
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack(">4I", data[at + 8 : at + 24])
    components, depth = struct.unpack(">HB", data[at + 40 : at + 43])
    return Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1, _ended(data), bool(depth & 0x80))
