"""How the pixels of one instance are laid out, checked once before anything is decoded (PS3.3 C.7.6.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from pydicom import Dataset

from dicom_node.errors import PixelError
from dicom_node.pixels.instances import Instance, PixelPlace

FRAME_BYTES = 256 << 20  # the largest decoded frame accepted; the largest radiographs are near 60 MiB
WIDE_FRAME_BYTES = 64 << 20  # the same of more than 16 bits: each pixel is computed, in several times as much memory
FRAMES = 100_000  # the most of one instance; the largest enhanced series are near 50,000
TABLE_BITS = 16  # stored values of more bits, and floats, are computed pixel by pixel
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"})
_LEADING_NUMBER = re.compile(r"\s*(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Layout:
    """Image pixel attributes, in range. ``frames`` ≥ 1. Bits are per sample; ``bits_stored`` of float pixels is their size."""

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: int
    frames: int

    @property
    def stored_frame_bytes(self) -> Fraction:
        """Length of one uncompressed frame in the file; frames of single-bit pixels need not end on a byte (PS3.5 8.1.1)."""
        size = Fraction(self.rows * self.columns * self.samples * self.bits_allocated, 8)
        return size * 2 / 3 if self.photometric == "YBR_FULL_422" else size

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a decoded frame: (rows, columns), or (rows, columns, 3)."""
        return (self.rows, self.columns, 3)[: 3 if self.samples == 3 else 2]

    @property
    def is_tabular(self) -> bool:
        """Grey of so few bits that a table of all stored values is smaller than a picture."""
        return self.samples == 1 and self.bits_allocated <= TABLE_BITS

    @property
    def decoded_frame_bytes(self) -> int:
        return self.rows * self.columns * self.samples * max(1, self.bits_allocated // 8)


def layout_of(instance: Instance) -> Layout:
    """Raises PixelError where there are no pixels, or an attribute is missing, contradictory or too large to decode."""
    place = instance.pixels
    if place is None:
        raise PixelError("it has no pixel data")
    header = instance.header
    bits = _number(header, "BitsAllocated")
    whole = place.keyword == "PixelData"
    stored = _number(header, "BitsStored", bits) if whole else bits
    layout = Layout(
        rows=_number(header, "Rows"),
        columns=_number(header, "Columns"),
        samples=_number(header, "SamplesPerPixel", 1),
        photometric=str(header.get("PhotometricInterpretation", "") or "").strip().upper(),
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=_number(header, "HighBit", stored - 1) if whole else bits - 1,
        signed=whole and _number(header, "PixelRepresentation", 0) == 1,
        planar=_number(header, "PlanarConfiguration", 0),
        frames=1,
    )
    _check(layout)
    return _with_frames(layout, header, place)


def _number(header: Dataset, keyword: str, default: int | None = None) -> int:
    value = header.get(keyword)
    if value is None or value == "":
        if default is None:
            raise PixelError(f"its header lacks {keyword}")
        return default
    if not isinstance(value, int):
        raise PixelError(f"its {keyword} is not a whole number")
    return value


def _check(layout: Layout) -> None:
    if not (0 < layout.rows < 1 << 16 and 0 < layout.columns < 1 << 16):
        raise PixelError(f"its size of {layout.rows} × {layout.columns} is not possible")
    if layout.bits_allocated not in (1, 8, 16, 32, 64):
        raise PixelError(f"{layout.bits_allocated} Bits Allocated are not supported")
    if not 1 <= layout.bits_stored <= layout.bits_allocated:
        raise PixelError(f"its Bits Stored ({layout.bits_stored}) do not fit its Bits Allocated ({layout.bits_allocated})")
    if layout.photometric not in (_GREY if layout.samples == 1 else _COLOUR) or layout.samples not in (1, 3):
        name = layout.photometric if layout.photometric in _GREY | _COLOUR else "unknown"
        raise PixelError(f"its Photometric Interpretation ({name}) with {layout.samples} samples per pixel is not supported")
    if layout.planar not in (0, 1):
        raise PixelError("its Planar Configuration is neither 0 nor 1")
    most = FRAME_BYTES if layout.bits_allocated <= TABLE_BITS else WIDE_FRAME_BYTES
    if layout.decoded_frame_bytes > most:
        raise PixelError(f"a frame of {layout.rows} × {layout.columns} is larger than {most >> 20} MiB")


def _with_frames(layout: Layout, header: Dataset, place: PixelPlace) -> Layout:
    """NumberOfFrames, where it is a number; else what uncompressed pixels have room for."""
    stated = _LEADING_NUMBER.match(_frames_text(header))
    frames = int(stated[1]) if stated else 0
    if frames < 1 and place.length is not None:
        frames = int(place.length / layout.stored_frame_bytes)
    if frames > FRAMES:
        raise PixelError(f"it states {frames} frames, more than the {FRAMES} that are looked through")
    return replace(layout, frames=max(1, frames))


def _frames_text(header: Dataset) -> str:
    """As sent: an IS that is no number ("1A") makes pydicom raise when it is asked for its value."""
    if "NumberOfFrames" not in header:
        return "1"
    raw = header.get_item("NumberOfFrames")
    value = raw.value if raw is not None else b""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
