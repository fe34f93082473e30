"""Where the coded bytes of each frame lie in a file (PS3.5 A.4): nothing but the heads of items is read."""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import BinaryIO, Final

from dicom_node.errors import PixelError

Piece = tuple[int, int]  # offset in the file, length; bytes

_HEAD: Final = struct.Struct("<HHL")
_ITEM: Final = (0xFFFE, 0xE000)
_MOST: Final = 1_000_000  # fragments of one object
_TAIL: Final = 10  # bytes of a fragment in which the end marker of a JPEG family stream is looked for
_END: Final = b"\xff\xd9"


def coded_frames(
    file: BinaryIO, offset: int, frames: int, extended: tuple[bytes, bytes] | None = None
) -> tuple[tuple[Piece, ...], ...]:
    """The pieces of each frame, of the encapsulated pixels whose value begins at ``offset``.

    ``extended``: Extended Offset Table and its lengths, as stored. Raises PixelError where frames and fragments do not agree.
    """
    table, items = _items(file, offset)
    if extended is not None:
        return _by_extended(items, *extended)
    if table and len(table) == frames:
        return _by_table(items, table)
    if len(items) == frames:
        return tuple((item,) for item in items)
    if frames == 1:
        return (tuple(items),)
    return _by_end_markers(file, items, frames)


def _items(file: BinaryIO, offset: int) -> tuple[Sequence[int], list[Piece]]:
    """The Basic Offset Table, and the fragments after it."""
    size = file.seek(0, os.SEEK_END)
    found: list[Piece] = []
    at = offset
    while (head := _head(file, at)) is not None:
        if at + 8 + head > size:
            raise PixelError("its pixel data are cut off")
        found.append((at + 8, head))
        at += 8 + head
        if len(found) > _MOST:
            raise PixelError(f"its pixel data have more than {_MOST} fragments")
    if len(found) < 2:
        raise PixelError("its pixel data hold no fragment")
    file.seek(found[0][0])
    table = file.read(found[0][1] // 4 * 4)
    return struct.unpack(f"<{len(table) // 4}L", table), found[1:]


def _head(file: BinaryIO, at: int) -> int | None:
    """The length of the item there; None where none begins."""
    file.seek(at)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    group, element, length = _HEAD.unpack(head)
    return length if (group, element) == _ITEM else None


def _by_table(items: list[Piece], table: Sequence[int]) -> tuple[tuple[Piece, ...], ...]:
    """Offsets count from the head of the first fragment."""
    first = items[0][0]
    starts = [_at(items, first + one) for one in table]
    if starts[0] != 0 or any(later <= one for one, later in pairwise(starts)):
        raise PixelError("its Basic Offset Table is not in order")
    return tuple(tuple(items[one:end]) for one, end in zip(starts, [*starts[1:], len(items)], strict=True))


def _by_extended(items: list[Piece], offsets: bytes, lengths: bytes) -> tuple[tuple[Piece, ...], ...]:
    """One fragment for each frame; its length there is without padding (PS3.3 C.7.6.3.1.8)."""
    starts, sizes = (struct.unpack(f"<{len(one) // 8}Q", one[: len(one) // 8 * 8]) for one in (offsets, lengths))
    if len(starts) != len(sizes):
        raise PixelError("its Extended Offset Table has not as many offsets as lengths")
    whole = [items[_at(items, items[0][0] + one)] for one in starts]
    return tuple(((at, min(length, size)),) for (at, length), size in zip(whole, sizes, strict=True))


def _at(items: list[Piece], offset: int) -> int:
    place = bisect_left(items, (offset, 0))
    if place >= len(items) or items[place][0] != offset:
        raise PixelError("its offset table points at no fragment")
    return place


def _by_end_markers(file: BinaryIO, items: list[Piece], frames: int) -> tuple[tuple[Piece, ...], ...]:
    """A frame ends with the fragment that ends with the end marker of its stream."""
    found: list[tuple[Piece, ...]] = []
    open_: list[Piece] = []
    for item in items:
        open_.append(item)
        file.seek(item[0] + max(0, item[1] - _TAIL))
        if _END in file.read(min(item[1], _TAIL)):
            found.append(tuple(open_))
            open_ = []
    if open_ or len(found) != frames:
        raise PixelError(f"its {len(items)} fragments cannot be told apart into {frames} frames")
    return tuple(found)
