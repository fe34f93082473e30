"""A stored file: its header, and where its pixel data begin."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import PixelError, StorageError
from dicom_node.pixels.quiet import quiet

DEFER_BYTES = 1 << 20  # a longer element (a document, a waveform) is read only when it is asked for
INFLATED_BYTES = 512 << 20  # what a deflated file may grow to in memory
_PIXEL_KEYWORDS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_PIXEL_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OV", b"UN"})
_IDENTITY = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_CAREFUL_ABOVE = 1 << 16


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """Where the value of the pixel data element lies in the (inflated) file.

    ``length`` is in bytes, None where undefined: then the pixels are encapsulated (PS3.5 A.4).
    """

    keyword: str
    vr: str
    offset: int
    length: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A stored DICOM file. ``header`` has no pixel data; ``pixels`` is None where the file has none."""

    path: Path
    header: Dataset
    transfer_syntax: str = str(ExplicitVRLittleEndian)
    pixels: PixelPlace | None = None

    @property
    def sop_instance_uid(self) -> str:
        return str(self.header.get("SOPInstanceUID", "") or "")


class LongHeader(Exception):  # noqa: N818
    """More of the file was read than the header of a plain image has."""


class _ClampedReader(io.BufferedReader):
    """Never asks for more bytes than the file has: a length field that lies must not reserve memory.

    ``left``: how many bytes may still be read before it raises LongHeader; what is passed over does not count.
    """

    left: float = math.inf

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _CAREFUL_ABOVE:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        content = super().read(size)
        self.left -= len(content)
        if self.left < 0:
            raise LongHeader
        return content


def open_bounded(path: Path) -> _ClampedReader:
    """The file, for reading. Raises StorageError where it cannot be opened: it may be there later."""
    try:
        return _ClampedReader(io.FileIO(path))
    except OSError as error:
        raise StorageError(f"{path} cannot be opened: {error.strerror}") from error


def open_data_set(path: Path, transfer_syntax: str) -> BinaryIO:
    """The bytes in which ``PixelPlace.offset`` counts: the file, or its inflated form."""
    file = open_bounded(path)
    if transfer_syntax != DeflatedExplicitVRLittleEndian:
        return file
    with file, quiet():
        _read_meta(file)
        return _inflated(file)


def read_here(path: Path, limit: float = math.inf) -> Instance:
    """Read a DICOM file up to its pixel data, in this process.

    Raises PixelError where it is not DICOM or is damaged before its pixels, StorageError where it cannot be opened, LongHeader
    past ``limit`` bytes of header, or where there is a limit and the file is deflated.
    """
    with open_bounded(path) as file, quiet():
        file.left = limit
        try:
            return _read(path, file)
        except (PixelError, LongHeader, MemoryError):
            raise
        except Exception as error:  # pydicom raises nearly anything on damaged bytes
            raise PixelError(f"its header is damaged ({type(error).__name__})") from error


def _read(path: Path, file: _ClampedReader) -> Instance:
    preamble, meta = _read_meta(file)
    syntax = str(meta.get("TransferSyntaxUID", "") or "") or _guess_syntax(file)
    if syntax == DeflatedExplicitVRLittleEndian and file.left < math.inf:
        raise LongHeader
    source = _inflated(file) if syntax == DeflatedExplicitVRLittleEndian else file
    implicit, little = _encoding(syntax)
    data_set = read_dataset(source, implicit, little, stop_when=_at_pixels, defer_size=DEFER_BYTES)
    place = _pixel_place(source, little)
    header = FileDataset(str(path), data_set, preamble, meta, implicit, little)
    header.set_original_encoding(implicit, little, data_set._character_set)
    if not len(header):
        raise PixelError("it holds no DICOM data set")
    for keyword in _IDENTITY:
        header.get(keyword)  # converts the element: who holds an Instance may ask for its identity without fear
    return Instance(path, header, syntax, place)


def _read_meta(file: BinaryIO) -> tuple[bytes | None, FileMetaDataset]:
    """Preamble and group 0002; a file without preamble is accepted where it starts as a data set does (PS3.10 7.1)."""
    preamble = read_preamble(file, force=True)
    if preamble is None:
        start = file.read(4)
        file.seek(0)
        groups = {struct.unpack(order + "H", start[:2])[0] for order in "<>"} if len(start) == 4 else set()
        if not groups & {0x0002, 0x0008}:
            raise PixelError("it is not a DICOM file (no DICM prefix)")
    return preamble, _read_file_meta_info(file)


def _guess_syntax(file: BinaryIO) -> str:
    """Explicit VR where the first element has one; uncompressed in any case."""
    start = file.read(6)
    file.seek(-len(start), os.SEEK_CUR)
    explicit = len(start) == 6 and start[4:6].isalpha() and start[4:6].isupper()
    return str(ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian)


def _encoding(syntax: str) -> tuple[bool, bool]:
    """(implicit VR, little endian); every encapsulated syntax is explicit little endian (PS3.5 A.4)."""
    return syntax == "1.2.840.10008.1.2", syntax != "1.2.840.10008.1.2.2"


def _inflated(file: BinaryIO) -> BinaryIO:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = engine.decompress(file.read(INFLATED_BYTES), INFLATED_BYTES)
    except zlib.error as error:
        raise PixelError("its deflated data set is damaged") from error
    if engine.unconsumed_tail:
        raise PixelError(f"its deflated data set is larger than {INFLATED_BYTES >> 20} MiB")
    if not engine.eof:
        raise PixelError("its deflated data set is cut off")
    return io.BytesIO(data)


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag in _PIXEL_KEYWORDS


def _pixel_place(file: BinaryIO, little: bool) -> PixelPlace | None:
    """Read the element header at which the data set reader stopped."""
    order = "<" if little else ">"
    start = file.read(8)
    if len(start) < 8:
        return None
    group, element = struct.unpack(order + "HH", start[:4])
    keyword = _PIXEL_KEYWORDS.get(group << 16 | element)
    if keyword is None:
        return None
    explicit = start[4:6] in _PIXEL_VRS  # whatever the file meta says: as a length those letters would be odd, so none
    vr = start[4:6].decode("ascii") if explicit else "OW"
    length: int = struct.unpack(order + "I", file.read(4) if explicit else start[4:])[0]
    return PixelPlace(keyword, vr, file.tell(), None if length == _UNDEFINED_LENGTH else length)
