"""Frames as they stand in a native little-endian transfer syntax (PS3.5 8.1, 8.2, A.1, A.2): no loss against what is stored."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import PixelError
from dicom_node.pixels.decode import decode_frame
from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.instances import Instance, PixelPlace, open_data_set
from dicom_node.pixels.layout import TABLE_BITS, Layout, layout_of
from dicom_node.pixels.syntaxes import NATIVE, refusal

# Lossless by themselves, and no colour transform belongs to them: to make RGB of their YBR_FULL would round it
_EXACT: Final = frozenset(str(one) for one in (RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless))
_CHUNK: Final = 1 << 20  # bytes; even


@dataclass(frozen=True, slots=True)
class NativePixels:
    """The pixels of one object. Encapsulated ones are decoded frame by frame by ``decoders``, native ones are copied.

    ``layout``: as stored.
    """

    instance: Instance
    layout: Layout
    place: PixelPlace
    decoders: Decoders

    @classmethod
    def of(cls, instance: Instance, decoders: Decoders) -> NativePixels:
        """Raises PixelError where there are no pixels, or none that can be given so without loss."""
        layout, place = layout_of(instance), instance.pixels
        if place is None:
            raise PixelError("it has no pixel data")
        if reason := refusal(instance.transfer_syntax):
            raise PixelError(reason)
        if instance.transfer_syntax == ExplicitVRBigEndian and layout.bits_allocated > TABLE_BITS:
            raise PixelError("its big-endian pixels of more than 16 bits are not converted")
        if instance.transfer_syntax in _EXACT and layout.photometric == "YBR_FULL_422":
            raise PixelError("its subsampled colour cannot be told without loss")
        return cls(instance, layout, place, decoders)

    @property
    def encapsulated(self) -> bool:
        return self.instance.transfer_syntax not in NATIVE

    @property
    def photometric(self) -> str:
        """Photometric Interpretation of these pixels (PS3.5 8.2: that of a compressed form ends with it)."""
        if not self.encapsulated or self.layout.samples == 1 or self._raw:
            return self.layout.photometric
        return "RGB"

    @property
    def high_bit(self) -> int:
        """Codecs but RLE carry values, not cells: theirs are right-aligned."""
        as_stored = not self.encapsulated or self.layout.samples == 3 or self.instance.transfer_syntax == RLELossless
        return self.layout.high_bit if as_stored else self.layout.bits_stored - 1

    @property
    def length(self) -> int:
        """Of all frames, in bytes, without padding to an even length."""
        layout = self.layout
        whole = layout.decoded_frame_bytes if self.encapsulated else layout.stored_frame_bytes
        return math.ceil(whole * layout.frames)

    @property
    def _raw(self) -> bool:
        return self.instance.transfer_syntax in _EXACT and self.layout.photometric == "YBR_FULL"

    def all(self) -> Iterator[bytes]:
        """All frames, ``length`` bytes. Raises PixelError, StorageError."""
        if self.encapsulated:
            for number in range(1, self.layout.frames + 1):
                yield self._decoded(number)
        else:
            yield from self._stored(0, self.length)

    def frame(self, number: int) -> Iterator[bytes]:
        """One frame, counted from 1, which begins at a byte of its own. Raises PixelError, StorageError."""
        if not 1 <= number <= self.layout.frames:
            raise PixelError(f"it has {self.layout.frames} frames, so frame {number} does not exist")
        size = self.layout.stored_frame_bytes
        if self.encapsulated:
            yield self._decoded(number)
        elif size.denominator == 1:
            yield from self._stored(int(size * (number - 1)), int(size))
        else:
            yield self._bits(int(size * 8), number)

    def _bits(self, bits: int, number: int) -> bytes:
        """Frames of single-bit pixels follow each other without a gap (PS3.5 8.1.1)."""
        first = (number - 1) * bits
        start, end = first // 8, math.ceil((first + bits) / 8)
        held = np.frombuffer(b"".join(self._stored(start, end - start)), np.uint8)
        cells = np.unpackbits(held, bitorder="little")[first - start * 8 :][:bits]
        return np.packbits(cells, bitorder="little").tobytes()

    def _stored(self, start: int, length: int) -> Iterator[bytes]:
        if self.place.length is None:
            raise PixelError("its pixels are encapsulated, but its transfer syntax is an uncompressed one")
        swap = self.instance.transfer_syntax == ExplicitVRBigEndian and self.place.vr != "OB"
        with open_data_set(self.instance.path, self.instance.transfer_syntax) as file:
            there = min(self.place.length, file.seek(0, os.SEEK_END) - self.place.offset)
            if there < start + length:
                raise PixelError(f"its pixel data are cut off ({max(0, there)} bytes of {start + length})")
            if swap:
                yield from _swapped(file, self.place.offset, start, length)
            else:
                yield from pieces(file, self.place.offset + start, length)

    def _decoded(self, number: int) -> bytes:
        cells = decode_frame(self.instance, self.layout, number, self.decoders, raw=self._raw)
        if cells.dtype.itemsize * 8 != self.layout.bits_allocated or cells.dtype.kind not in "ui":
            raise PixelError(f"its decoded pixels are not cells of {self.layout.bits_allocated} bits")
        if self.layout.samples == 1 and self.instance.transfer_syntax != RLELossless:
            cells = _without_unused_bits(cells, self.layout)
        return cells.astype(cells.dtype.newbyteorder("<"), copy=False).tobytes()


def pieces(file: BinaryIO, offset: int, length: int) -> Iterator[bytes]:
    """``length`` bytes from ``offset`` on, never many at once. Raises PixelError where the file ends before."""
    file.seek(offset)
    left = length
    while left:
        piece = file.read(min(left, _CHUNK))
        if not piece:
            raise PixelError("its pixel data are cut off")
        left -= len(piece)
        yield piece


def _swapped(file: BinaryIO, offset: int, start: int, length: int) -> Iterator[bytes]:
    """From words of 16 bits, big endian (VR OW)."""
    at, end = start - start % 2, start + length
    for piece in pieces(file, offset + at, end + end % 2 - at):
        words = np.frombuffer(piece + bytes(len(piece) % 2), ">u2").astype("<u2").tobytes()
        yield words[max(0, start - at) : end - at]
        at += len(words)


def _without_unused_bits(cells: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Sign-extended, or zero, above Bits Stored."""
    spare, width = layout.bits_allocated - layout.bits_stored, layout.bits_allocated // 8
    if not spare:
        return cells
    shifted = cells.view(f"u{width}") << spare
    return shifted.view(f"i{width}") >> spare if layout.signed else shifted >> spare
