"""Lookup tables of the standard: descriptor and data, as numbers (PS3.3 C.11.1.1.1, C.11.2.1.1, C.7.6.3.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.errors import PixelError

Values = NDArray[np.float64]
_PIECE = 1 << 17  # cells
_ALL_ENTRIES = 1 << 16  # what a number of entries of 0 stands for


@dataclass(frozen=True, slots=True)
class Descriptor:
    """``entries`` 1..65536; ``first``: the input value of entry 0; ``bits``: of each entry, 8..16."""

    entries: int
    first: int
    bits: int


@dataclass(frozen=True, slots=True, eq=False)
class Lut:
    """``data``: (entries,) unsigned."""

    data: NDArray[np.uint16]
    first: int
    bits: int

    def at(self, values: Values) -> NDArray[np.uint16]:
        """Entry for each value: the first below the table, the last above it."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.data) - 1)
        return cast("NDArray[np.uint16]", self.data[index.astype(np.intp)])


def descriptor_of(value: object, signed_input: bool) -> Descriptor:
    """``value``: the three numbers of a descriptor, whose second is signed where the input is, whatever its VR says."""
    if not isinstance(value, Sequence) or len(value) != 3:
        raise PixelError("a lookup table in its header has no valid descriptor")
    entries, first, bits = (int(cast("Any", number)) for number in value)
    first &= 0xFFFF
    if signed_input and first > 0x7FFF:
        first -= 1 << 16
    return Descriptor((entries & 0xFFFF) or _ALL_ENTRIES, first, bits)


def lut_of(item: Dataset, signed_input: bool, little_endian: bool) -> Lut:
    """The table of one item of a Modality or VOI LUT Sequence. Raises PixelError where it is damaged."""
    descriptor = descriptor_of(item.get("LUTDescriptor"), signed_input)
    return table_of(descriptor, item.get("LUTData"), little_endian)


def table_of(descriptor: Descriptor, data: object, little_endian: bool) -> Lut:
    """``data``: numbers, or bytes of one or two per entry."""
    entries = _entries(data, descriptor.entries, little_endian)
    if not len(entries):
        raise PixelError("a lookup table in its header is empty")
    if len(entries) < descriptor.entries:
        raise PixelError("a lookup table in its header is shorter than its descriptor says")
    entries = entries[: descriptor.entries]
    bits = descriptor.bits if 1 <= descriptor.bits <= 16 else 16
    return Lut(entries, descriptor.first, max(bits, int(entries.max()).bit_length()))


def _entries(data: object, count: int, little_endian: bool) -> NDArray[np.uint16]:
    if isinstance(data, bytes):
        one_byte_each = len(data) < 2 * count
        kind = "u1" if one_byte_each else ("<u2" if little_endian else ">u2")
        return np.frombuffer(data[: len(data) & ~(0 if one_byte_each else 1)], kind).astype(np.uint16)
    if isinstance(data, int):
        data = [data]
    return np.asarray(cast("Any", data if data is not None else []), dtype=np.int64).astype(np.uint16)


def looked_up(table: NDArray[np.uint8], cells: NDArray[Any]) -> NDArray[np.uint8]:
    """``table[cells]``, in pieces that stay in the cache: half the time, and an eighth of the memory, of one indexing.

    ``table``: (every value of a cell,) or (every value of a cell, 3).
    """
    flat = np.ascontiguousarray(cells).reshape(-1)
    shown = np.empty((flat.size, *table.shape[1:]), dtype=np.uint8)
    for start in range(0, flat.size, _PIECE):
        piece = slice(start, start + _PIECE)
        np.take(table, flat[piece], axis=0, out=shown[piece], mode="clip")  # never clips: the table has every value
    return shown.reshape(*cells.shape, *table.shape[1:])


def present(cells: NDArray[Any]) -> NDArray[np.bool_]:
    """For each value that a cell of this width can have, whether ``cells`` have it."""
    found = np.zeros(1 << 8 * cells.dtype.itemsize, dtype=np.bool_)
    flat = np.ascontiguousarray(cells).reshape(-1)
    for start in range(0, flat.size, _PIECE):
        found[flat[start : start + _PIECE]] = True
    return found
