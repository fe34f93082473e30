"""PALETTE COLOR to RGB (PS3.3 C.7.9), with segmented tables expanded (C.7.9.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.errors import PixelError
from dicom_node.pixels.lut import Descriptor, Lut, Values, descriptor_of, table_of

_COLOURS = ("Red", "Green", "Blue")
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


def palette_table(header: Dataset, stored: Values, signed: bool, little_endian: bool) -> NDArray[np.uint8]:
    """(n, 3) RGB for each of the n ``stored`` values. Raises PixelError where the palette is missing or damaged."""
    channels = [_channel(header, colour, signed, little_endian) for colour in _COLOURS]
    bits = max(channel.bits for channel in channels)
    top = (1 << (8 if bits <= 8 else 16)) - 1
    rgb = np.stack([channel.at(stored) for channel in channels], axis=-1)
    shown: NDArray[np.uint8] = np.rint(rgb * (255 / top)).astype(np.uint8)
    return shown


def _channel(header: Dataset, colour: str, signed: bool, little_endian: bool) -> Lut:
    prefix = f"{colour}PaletteColorLookupTable"
    descriptor = descriptor_of(header.get(prefix + "Descriptor"), signed)
    if (data := header.get(prefix + "Data")) is not None:
        return table_of(descriptor, data, little_endian)
    segments = header.get(f"Segmented{prefix}Data")
    if not isinstance(segments, bytes):
        raise PixelError(f"its {colour.lower()} palette is missing")
    return Lut(_expanded(segments, descriptor, little_endian), descriptor.first, descriptor.bits)


def _expanded(segments: bytes, descriptor: Descriptor, little_endian: bool) -> NDArray[np.uint16]:
    kind = "u1" if descriptor.bits <= 8 else ("<u2" if little_endian else ">u2")
    words = np.frombuffer(segments[: len(segments) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], kind)
    out: list[int] = []
    try:
        _expand(words.tolist(), 0, len(words), descriptor, out, nested=False)
    except IndexError as error:
        raise PixelError("its segmented palette is damaged") from error
    if len(out) < descriptor.entries:
        raise PixelError("its segmented palette is shorter than its descriptor says")
    return np.array(out[: descriptor.entries], dtype=np.uint16)


def _expand(words: list[int], at: int, count: int, descriptor: Descriptor, out: list[int], nested: bool) -> None:
    """Append the entries of the segments from word ``at``: up to word ``count``, or ``count`` segments where nested."""
    segments = 0
    while len(out) < descriptor.entries and (segments < count if nested else at + 1 < count):
        opcode, length = words[at], words[at + 1]
        if opcode == _DISCRETE:
            out.extend(words[at + 2 : at + 2 + length])
            at += 2 + length
        elif opcode == _LINEAR:
            out.extend(_ramp(out[-1], words[at + 2], length))
            at += 3
        elif opcode == _INDIRECT and not nested:
            target = _target(words, at, descriptor)
            _expand(words, target, length, descriptor, out, nested=True)
            at += 4 if descriptor.bits > 8 else 6
        else:
            raise PixelError("its segmented palette is damaged")
        segments += 1


def _ramp(start: int, end: int, length: int) -> list[int]:
    """``length`` values after ``start``, the last being ``end``."""
    steps = np.arange(1, length + 1) / max(1, length)
    return [int(value) for value in np.rint(start + (end - start) * steps)]


def _target(words: list[int], at: int, descriptor: Descriptor) -> int:
    """Word offset of the segment that an indirect segment points to: bytes, least significant part first (C.7.9.2.2.3)."""
    if descriptor.bits > 8:
        return (words[at + 2] | words[at + 3] << 16) // 2
    return sum(words[at + 2 + part] << (8 * part) for part in range(4))
