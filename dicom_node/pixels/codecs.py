"""One frame out of its stored form. Runs inside a decoder process, except for plain uncompressed pixels."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, RLELossless

from dicom_node.errors import PixelError
from dicom_node.pixels import codestream, jpeg, jpeg2000
from dicom_node.pixels.codestream import Codestream
from dicom_node.pixels.instances import open_data_set
from dicom_node.pixels.layout import Layout
from dicom_node.pixels.quiet import quiet
from dicom_node.pixels.reduction import averaged, band_rows
from dicom_node.pixels.syntaxes import DECODERS, JPEG_2000, NATIVE
from dicom_node.pixels.task import Decode

_RLE_BEST = 64  # two coded bytes stand for at most 128 (PS3.5 G.3.1)
_REDUCED = "reduced"
_PLAIN_SYNTAXES = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})  # little endian


def decode(task: Decode) -> NDArray[Any]:
    """The frame: see ``decode_frame``. Raises PixelError, StorageError."""
    native = task.transfer_syntax in NATIVE
    with open_data_set(task.path, task.transfer_syntax) as file, quiet():
        pixels = (_native if native else _encapsulated)(task, file)
    return _as_stated(pixels, task)


def _as_stated(pixels: NDArray[Any], task: Decode) -> NDArray[Any]:
    """In native byte order and, where tables are made for cells of the stated width, in cells of that width."""
    layout = task.layout
    width = max(1, layout.bits_allocated // 8)
    too_wide = layout.is_tabular and (pixels.dtype.kind not in "ui" or pixels.dtype.itemsize > width)
    if pixels.shape not in task.shapes or too_wide:
        raise PixelError("its pixel data do not have the size that its header states")
    wanted = np.dtype(f"{pixels.dtype.kind}{width}") if layout.is_tabular else pixels.dtype.newbyteorder("=")
    return pixels.astype(wanted, copy=False)


def _native(task: Decode, file: BinaryIO) -> NDArray[Any]:
    place, layout = task.place, task.layout
    if place.length is None:
        raise PixelError("its pixels are encapsulated, but its transfer syntax is an uncompressed one")
    needed = math.ceil(layout.stored_frame_bytes * (task.index + 1))
    there = min(place.length, file.seek(0, os.SEEK_END) - place.offset)
    if there < needed:
        raise PixelError(f"its pixel data are cut off ({max(0, there)} bytes of {needed})")
    if _is_plain(task):
        return _plain(task, file)
    file.seek(place.offset)
    return _by_pydicom(task, file, task.index, "")


def _is_plain(task: Decode) -> bool:
    """Whole little-endian grey cells: the bytes are the pixels."""
    layout = task.layout
    whole = layout.samples == 1 and layout.bits_allocated in (8, 16) and task.place.keyword == "PixelData"
    return whole and task.transfer_syntax in _PLAIN_SYNTAXES


def _plain(task: Decode, file: BinaryIO) -> NDArray[Any]:
    layout = task.layout
    size = layout.decoded_frame_bytes
    file.seek(task.place.offset + size * task.index)
    if task.reduce:
        return averaged(_bands(file, layout, task.reduce), layout, task.reduce, right_aligned=False)
    kind = f"<{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}"
    return np.frombuffer(file.read(size), kind).reshape(task.layout.shape)


def _bands(file: BinaryIO, layout: Layout, times: int) -> Iterator[NDArray[Any]]:
    """Each in the memory of the one before, which stays in the cache."""
    memory = np.empty((band_rows(times), layout.columns), f"<u{layout.bits_allocated // 8}")
    for start in range(0, layout.rows, len(memory)):
        band = memory[: layout.rows - start]
        if file.readinto(band.reshape(-1).view(np.uint8)) < band.nbytes:  # type: ignore[attr-defined]
            raise PixelError("its pixel data are cut off")
        yield band


def _encapsulated(task: Decode, file: BinaryIO) -> NDArray[Any]:
    if task.place.length is not None:
        raise PixelError("its pixels are not encapsulated, but its transfer syntax is a compressed one")
    coded = _coded_frame(task, file)
    stream = codestream.parse(coded)
    _check_stream(stream, task.layout, coded, task.transfer_syntax)
    failures: list[BaseException] = []
    for name in (*([_REDUCED] if task.reduce and task.transfer_syntax in JPEG_2000 else []), *DECODERS[task.transfer_syntax]):
        try:
            return _by(name, task, coded, stream)
        except MemoryError:
            raise
        except BaseException as error:
            if not _is_decoder_failure(error):
                raise
            failures.append(error)
    raise PixelError("its compressed pixel data are damaged or of a kind that no decoder here takes") from failures[-1]


def _by(name: str, task: Decode, coded: bytes, stream: Codestream | None) -> NDArray[Any]:
    if name == "imagecodecs" and task.transfer_syntax in JPEG_2000:
        return jpeg2000.decode_high_throughput(coded, task.layout)
    if name == "imagecodecs":
        return jpeg.decode(coded, None if task.raw else stream, task.layout)
    if name == _REDUCED and stream is not None:
        return jpeg2000.decode_reduced(coded, stream, task.layout, task.reduce)
    return _by_pydicom(task, io.BytesIO(encapsulate([coded], has_bot=False)), 0, name)


def _is_decoder_failure(error: BaseException) -> bool:
    """A foreign decoder raises anything; the Rust ones even panic, as a BaseException of a module nobody can import."""
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"


def _coded_frame(task: Decode, file: BinaryIO) -> bytes:
    file.seek(task.place.offset)
    try:
        return get_frame(file, task.index, number_of_frames=task.layout.frames, extended_offsets=task.offsets)
    except MemoryError:
        raise
    except Exception as error:
        raise PixelError(f"its pixel data are cut off or damaged before frame {task.index + 1}") from error


def _check_stream(stream: Codestream | None, layout: Layout, coded: bytes, syntax: str) -> None:
    """Refuse what would make a decoder reserve more than the header says, and what ends before its end marker.

    Decoders fill a missing rest with grey: a picture that looks whole and is not.
    """
    if syntax == RLELossless:
        if len(coded) * _RLE_BEST < layout.stored_frame_bytes:
            raise PixelError("its pixel data are cut off")
        return
    if stream is None:
        raise PixelError("its compressed pixel data are damaged at their start")
    if (stream.rows, stream.columns) != (layout.rows, layout.columns):
        raise PixelError(
            f"its compressed pixels are {stream.rows} × {stream.columns}, its header says {layout.rows} × {layout.columns}"
        )
    if stream.components != layout.samples:
        raise PixelError(f"its compressed pixels have {stream.components} samples, its header says {layout.samples}")
    if not stream.ended:
        raise PixelError("its compressed pixel data are cut off (no end marker)")


def _by_pydicom(task: Decode, source: BinaryIO, index: int, plugin: str) -> NDArray[Any]:
    layout = task.layout
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "planar_configuration": layout.planar,
        "number_of_frames": layout.frames,
        "pixel_keyword": task.place.keyword,
        "pixel_vr": task.place.vr,
    }
    if layout.is_tabular:  # goes through a table that ignores unused bits (values.py): no pass over the pixels for them
        options["correct_unused_bits"] = False
    decoder = get_decoder(UID(task.transfer_syntax))
    array, _ = decoder.as_array(source, index=index, decoding_plugin=plugin, raw=task.raw, **options)
    return array
