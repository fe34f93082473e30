"""DICOMweb, read-only: the frames of an object (PS3.18 10.4, 8.7.3.3), as they are stored or uncompressed.

Coded frames go out as they lie in the file, uncompressed ones in little endian; what is decoded for a request is decoded in a
decoder process. Of no object more than one frame is in memory, and of no native one a whole frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydicom import Dataset
from starlette.exceptions import HTTPException

from dicom_node.errors import PixelError
from dicom_node.pixels.coded import Piece, coded_frames
from dicom_node.pixels.decode import extended_offsets
from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.instances import Instance, open_data_set
from dicom_node.pixels.layout import layout_of
from dicom_node.pixels.native import NativePixels, pieces
from dicom_node.pixels.opening import read_instance
from dicom_node.pixels.syntaxes import NATIVE
from dicom_node.trail import Trail
from dicom_node.web.access import client_of
from dicom_node.web.dicomweb_found import PEER, entries, file_of, frame_list, frames_of, multipart, related
from dicom_node.web.media import Range, ranges
from dicom_node.web.parts import Parts
from dicom_node.web.turns import Turns

OCTETS: Final = "application/octet-stream"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
_JPEG, _JLS, _JP2 = ("image/jpeg",), ("image/jls", "image/x-jls"), ("image/jp2", "image/j2c")
_HTJ2K: Final = ("image/jphc", "image/jph", "image/j2c")
KINDS: Final[dict[str, tuple[str, ...]]] = {  # Table 8.7.3-5; the first is told, the others are older or for files
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{one}" for one in (50, 51, 53, 55, 57, 70)], _JPEG),
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{one}" for one in (80, 81)], _JLS),
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{one}" for one in (90, 91)], _JP2),
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{one}" for one in (92, 93)], ("image/jpx",)),
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{one}" for one in (110, 111, 112)], ("image/jxl",)),
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{one}" for one in (201, 202, 203)], _HTJ2K),
    "1.2.840.10008.1.2.5": ("image/dicom-rle", "image/x-dicom-rle"),
}
_KNOWN: Final = 32  # objects of which it is remembered where their frames lie


@dataclass(frozen=True, slots=True)
class Frames:
    """Where the frames of one file are. ``coded``: none where it is not encapsulated; ``native``: why there is none else."""

    path: Path
    syntax: str
    count: int
    coded: tuple[tuple[Piece, ...], ...]
    native: NativePixels | str

    def as_stored(self, number: int) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            for offset, length in self.coded[number - 1]:
                yield from pieces(file, offset, length)

    def uncompressed(self, number: int) -> Iterator[bytes]:
        if isinstance(self.native, str):
            raise PixelError(self.native)
        return self.native.frame(number)


@dataclass(frozen=True, slots=True)
class _Choice:
    """``kind``: media type of each frame. ``stored``: else uncompressed. ``alone``: one frame may come without multipart."""

    kind: str
    stored: bool
    alone: bool


class FrameFinder:
    """Remembers the last objects: viewers ask for one frame after the other, and a header may be long."""

    def __init__(self, decoders: Decoders) -> None:
        self._decoders = decoders
        self._known = lru_cache(maxsize=_KNOWN)(self._look)

    def find(self, path: Path) -> Frames:
        """Raises PixelError, StorageError, FileNotFoundError."""
        state = path.stat()
        return self._known(path, state.st_size, state.st_mtime_ns)

    def _look(self, path: Path, _size: int, _changed: int) -> Frames:
        instance = read_instance(path, self._decoders)
        layout, offsets = layout_of(instance), extended_offsets(instance)
        coded: tuple[tuple[Piece, ...], ...] = ()
        if instance.transfer_syntax not in NATIVE and instance.pixels is not None and instance.pixels.length is None:
            with open_data_set(path, instance.transfer_syntax) as file:
                coded = coded_frames(file, instance.pixels.offset, layout.frames, offsets)
        return Frames(path, instance.transfer_syntax, layout.frames, coded, self._native(instance))

    def _native(self, instance: Instance) -> NativePixels | str:
        """With so much of the header as decoding needs."""
        try:
            found = NativePixels.of(instance, self._decoders)
        except PixelError as error:
            return error.reason
        needed = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
        short = Dataset({instance.header[one].tag: instance.header[one] for one in needed if one in instance.header})
        return replace(found, instance=replace(instance, header=short))


def add(made: APIRouter, parts: Parts, trail: Trail, decoders: Decoders, turns: Turns) -> None:
    finder = FrameFinder(decoders)

    def frames(request: Request, study: str, series: str, instance: str, numbers: str) -> tuple[Iterator[bytes], str]:
        (entry,) = entries(parts, study, series, instance)
        if not frames_of(entry):
            raise HTTPException(404, "this object has no frames")
        try:
            found = finder.find(file_of(parts, entry))
            wanted = frame_list(numbers, found.count)
            choice = choose(ranges(request), found)
            body, kind = _body(found, wanted, choice)
            begun = chain(list(islice(body, 2)), body)  # what cannot be given is told before anything is
        except PixelError as error:
            raise HTTPException(406, f"its frames cannot be given: {error.reason}") from error
        trail.gave(PEER, client_of(request), (entry,))
        return begun, kind

    @made.get("/studies/{study}/series/{series}/instances/{instance}/frames/{numbers}")
    async def some_frames(request: Request, study: str, series: str, instance: str, numbers: str) -> Response:
        body, kind = await turns.do(lambda: frames(request, study, series, instance, numbers))
        return StreamingResponse(turns.each(body), media_type=kind)


def choose(wished: list[Range], found: Frames) -> _Choice:
    """The first that can be given. Raises 406."""
    for one in wished:
        if (choice := _fitting(one, found)) is not None:
            return choice
    forms = [*([OCTETS] if isinstance(found.native, NativePixels) else []), *KINDS.get(found.syntax, ())[:1]]
    told = " or ".join(f'multipart/related; type="{one}"' for one in forms) or "nothing"
    raise HTTPException(406, f"these frames are given as {told}")


def _fitting(one: Range, found: Frames) -> _Choice | None:
    """Octets are uncompressed unless a range asks for any transfer syntax, or for that of the object (8.7.3.5)."""
    kinds = KINDS.get(found.syntax, ()) if found.coded else ()
    alone = not one.multipart and not one.kind.endswith("*")
    octets, named = one.takes(OCTETS), bool(one.syntaxes)
    if octets and isinstance(found.native, NativePixels) and one.takes_syntax(EXPLICIT) and not (kinds and "*" in one.syntaxes):
        return _Choice(OCTETS, stored=False, alone=alone)
    if octets and kinds and one.takes_syntax(found.syntax, unnamed=one.kind == "*/*"):
        return _Choice(OCTETS if named and "*" not in one.syntaxes and one.kind == OCTETS else kinds[0], True, alone)
    taken = next((kind for kind in kinds if one.takes(kind)), None)
    if taken is not None and one.takes_syntax(found.syntax):
        return _Choice(taken, stored=True, alone=alone)
    return None


def _body(found: Frames, wanted: tuple[int, ...], choice: _Choice) -> tuple[Iterator[bytes], str]:
    """The bytes, and their media type. Raises PixelError when they are asked for."""
    bytes_of = found.as_stored if choice.stored else found.uncompressed
    told = f"{choice.kind}; transfer-syntax={found.syntax if choice.stored else EXPLICIT}"
    if choice.alone and len(wanted) == 1:
        return iter(bytes_of(wanted[0])), told
    boundary, kind = related(choice.kind)
    return multipart(boundary, ((told, bytes_of(number)) for number in wanted)), kind
