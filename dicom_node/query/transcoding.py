"""A stored object in another native transfer syntax, for a peer that does not take the one in which it came.

Compressed pixels are decoded frame by frame in a decoder process, and never compressed anew. What is lossy stays marked as such
(PS3.3 C.7.6.1.1.5), the SOP Instance UID stays (PS3.4 C.4.2.2: the same object), and the image pixel description becomes that
of the native form (PS3.5 8.2). One frame at a time is in memory; the result lies in the spool, and is gone at the end.
"""

from __future__ import annotations

import atexit
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydicom import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ImplicitVRLittleEndian

from dicom_node.errors import PixelError, StorageError, StorageFull
from dicom_node.pixels.limits import Limits
from dicom_node.pixels.quiet import quiet
from dicom_node.remote.sending import NATIVE
from dicom_node.storage.arriving import ArrivingFile
from dicom_node.storage.files import FileStore

if TYPE_CHECKING:  # the listening process loads none of this before it is needed
    from dicom_node.pixels.decoders import Decoders
    from dicom_node.pixels.instances import Instance
    from dicom_node.pixels.native import NativePixels

_MOST_DOCUMENT: Final = 256 << 20  # bytes of a file without pixels (a document, a waveform), which is written as a whole
_LONGEST_VALUE: Final = 0xFFFFFFFE  # bytes (PS3.5 7.1.1)
_OF_ENCAPSULATED: Final = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_PIXEL_TAGS: Final = {"PixelData": 0x7FE00010, "FloatPixelData": 0x7FE00008, "DoubleFloatPixelData": 0x7FE00009}
_VRS: Final = {"FloatPixelData": b"OF", "DoubleFloatPixelData": b"OD"}


class Transcoder:
    """Thread-safe; as many at once as there are decoder processes, which are started when they are first needed.

    ``spare``: bytes that must stay free on the disk.
    """

    def __init__(self, files: FileStore, limits: Limits, spare: int) -> None:
        self._files, self._limits, self._spare = files, limits, spare
        self._turns = threading.BoundedSemaphore(limits.count)
        self._lock = threading.Lock()

    @contextmanager
    def converted(self, path: Path, syntax: str, tick: Callable[[], None] = lambda: None) -> Iterator[Path]:
        """A Part 10 file of the same object in ``syntax``, one of ``NATIVE``, until the context ends.

        ``tick`` is called after each frame. Raises PixelError where it cannot be given so without loss, StorageError.
        """
        if syntax not in NATIVE:
            raise PixelError("it is converted into native little-endian transfer syntaxes only")
        made = self._files.arriving(b"")
        try:
            with self._turns:  # none is kept while a peer takes what was made
                self._write(path, syntax, made, tick)
                made.finish(durable=False)
            yield Path(made.path)
        finally:
            made.discard()

    def _write(self, path: Path, syntax: str, made: ArrivingFile, tick: Callable[[], None]) -> None:
        head, pixels = self._opened(path, syntax)
        made.write(head)
        if pixels is None:
            return
        for piece in _guarded(pixels.all()):
            made.write(piece)
            tick()
        if pixels.length % 2:
            made.write(b"\0")

    def _opened(self, path: Path, syntax: str) -> tuple[bytes, NativePixels | None]:
        """All before the value of the pixels, and these."""
        from dicom_node.pixels.native import NativePixels
        from dicom_node.pixels.opening import read_instance

        with _told():
            instance = read_instance(path, self._decoders)
            if instance.pixels is None:
                self._require_room(_size_of_document(path))
                return _head(instance, syntax), None
            pixels = NativePixels.of(instance, self._decoders)
            if pixels.length > _LONGEST_VALUE:
                raise PixelError("its pixels are too long for an uncompressed transfer syntax")
            self._require_room(pixels.length)
            return _head(_described(pixels), syntax) + _pixel_head(pixels, syntax), pixels

    def _require_room(self, size: int) -> None:
        """Raises StorageFull: what a peer asks for must not take the room of what is received."""
        if self._files.free_bytes() < self._spare + size:
            raise StorageFull("there is no room on the disk to convert this object now")

    @property
    def _decoders(self) -> Decoders:
        with self._lock:
            return self._started

    @cached_property
    def _started(self) -> Decoders:
        from dicom_node.pixels.decoders import Decoders

        decoders = Decoders(self._limits)
        atexit.register(decoders.close)
        return decoders


@contextmanager
def _told() -> Iterator[None]:
    """Raises PixelError or StorageError for whatever a damaged object does to pydicom."""
    try:
        with quiet():
            yield
    except (PixelError, StorageError):
        raise
    except MemoryError as error:
        raise StorageError("there is not enough memory to convert this object now") from error
    except Exception as error:  # pydicom raises nearly anything on damaged elements
        raise PixelError(f"its header or pixel data are damaged ({type(error).__name__})") from error


def _guarded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same, none of them empty."""
    while True:
        with _told():
            piece = next(pieces, b"")
        if not piece:
            return
        yield piece


def _size_of_document(path: Path) -> int:
    size = path.stat().st_size
    if size > _MOST_DOCUMENT:
        raise PixelError("it is too long to be converted")
    return size


def _described(pixels: NativePixels) -> Instance:
    """The header of the native form. What it must not hold is dropped: offset tables, and icons that are compressed."""
    header = pixels.instance.header
    for name in _OF_ENCAPSULATED:
        if name in header:
            del header[name]
    if pixels.encapsulated:
        header.PhotometricInterpretation = pixels.photometric
        header.HighBit = pixels.high_bit
        if pixels.layout.samples == 3:
            header.PlanarConfiguration = 0
    with suppress(KeyError):
        if any(_is_encapsulated(item) for item in header["IconImageSequence"].value or ()):
            del header["IconImageSequence"]
    return pixels.instance


def _is_encapsulated(item: Dataset) -> bool:
    return "PixelData" in item and bool(item["PixelData"].is_undefined_length)


def _head(instance: Instance, syntax: str) -> bytes:
    """File meta, and all elements before the pixels."""
    header, buffer = instance.header, BytesIO()
    header.file_meta.TransferSyntaxUID = UID(syntax)
    dcmwrite(buffer, header, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def _pixel_head(pixels: NativePixels, syntax: str) -> bytes:
    """The element's tag, VR and length (PS3.5 A.1, A.2: OB only for cells of up to 8 bits, and never in implicit VR)."""
    keyword = pixels.place.keyword
    tag, length = _PIXEL_TAGS[keyword], pixels.length + pixels.length % 2
    if syntax == ImplicitVRLittleEndian:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)
    vr = _VRS.get(keyword, b"OB" if pixels.layout.bits_allocated <= 8 else b"OW")
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)
