"""What is asked of a decoder process, and its answer: plain data that crosses between processes.

A question is pickled, for the node is trusted by its decoder. An answer is a fixed form and a text: what a decoder says after
it has read hostile bytes is never unpickled. Pixels lie in memory that both processes map.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dicom_node.pixels.instances import PixelPlace
from dicom_node.pixels.jpeg2000 import reduced_shape
from dicom_node.pixels.layout import Layout
from dicom_node.pixels.look import AS_STORED, Look
from dicom_node.pixels.reduction import averaged_shape
from dicom_node.pixels.syntaxes import JPEG_2000

LENGTH = struct.Struct("<I")  # before each message
STARTED = b"\1"  # what a decoder process says once, before it takes questions
MOST_ANSWER_BYTES = 4096
MOST_PICTURE_BYTES = 256 << 20  # coded; those of the largest radiographs have near 40 MiB as PNG
_FORM = struct.Struct("<BB3I2s")
_KINDS = frozenset("uif")


@dataclass(frozen=True, slots=True)
class Decode:
    """One frame.

    ``index`` counts from 0. ``offsets``: Extended Offset Table and its lengths. ``reduce``: wished halvings of each side,
    which JPEG 2000 and plain grey cells allow. ``raw``: colour stays as it is coded.
    """

    path: Path
    transfer_syntax: str
    layout: Layout
    place: PixelPlace
    index: int
    offsets: tuple[bytes, bytes] | None = None
    reduce: int = 0
    raw: bool = False

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """What the frame may be: whole, or reduced where that is asked for and possible."""
        if not self.reduce:
            return (self.layout.shape,)
        reduced = reduced_shape if self.transfer_syntax in JPEG_2000 else averaged_shape
        return self.layout.shape, reduced(self.layout, self.reduce)


@dataclass(frozen=True, slots=True)
class Inspect:
    """Read the header of a file and say whether that can be done within the limits."""

    path: Path


@dataclass(frozen=True, slots=True)
class Viewport:
    """The picture is scaled to fit ``width`` × ``height`` pixels, its aspect ratio kept.

    ``region``: left, top, width, height of the part that is shown, in pixels of the image; a negative width or height mirrors
    it. None: all.
    """

    width: int
    height: int
    region: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame as a coded picture. ``frame_number`` counts from 1; None: the one in the middle. ``quality``: of JPEG, 1..100."""

    path: Path
    frame_number: int | None = 1
    look: Look = AS_STORED
    viewport: Viewport | None = None
    form: Literal["jpeg", "png"] = "jpeg"
    quality: int = 90


Question = Decode | Inspect | Picture


class Outcome(IntEnum):
    DONE = 0
    REFUSED = 1  # the file cannot be read, now or later
    UNAVAILABLE = 2  # the file cannot be opened at the moment
    NO_MEMORY = 3  # it needs more memory than a decoder may use


@dataclass(frozen=True, slots=True)
class Answer:
    """``shape`` and ``kind`` (numpy's, as "u2") of the pixels in the shared memory; ``reason`` where there are none."""

    outcome: Outcome
    shape: tuple[int, ...] = ()
    kind: str = "u1"
    reason: str = ""

    def encode(self) -> bytes:
        rows, columns, samples = (*self.shape, 0, 0, 0)[:3]
        form = _FORM.pack(self.outcome, len(self.shape), rows, columns, samples, self.kind.encode("ascii"))
        return form + self.reason.encode("utf-8")[: MOST_ANSWER_BYTES - _FORM.size]

    @classmethod
    def decode(cls, content: bytes) -> Answer:
        """Raises ValueError for anything that ``encode`` does not make."""
        if len(content) < _FORM.size:
            raise ValueError("an answer is too short")
        outcome, dimensions, rows, columns, samples, kind = _FORM.unpack_from(content)
        text = kind.decode("ascii")
        if dimensions > 3 or text[0] not in _KINDS or text[1] not in "1248":
            raise ValueError("an answer is not well formed")
        return cls(
            Outcome(outcome), (rows, columns, samples)[:dimensions], text, content[_FORM.size :].decode("utf-8", "replace")
        )


def kind_of(pixels: NDArray[Any]) -> str:
    return f"{pixels.dtype.kind}{pixels.dtype.itemsize}"


def mapped(memory: Any, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
    """The pixels in ``memory``. Raises ValueError where it has no room for them."""
    return np.frombuffer(memory, np.dtype(kind), prod(shape)).reshape(shape)
