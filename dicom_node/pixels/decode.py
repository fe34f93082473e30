"""One frame of an instance as numbers, never more of the file than that frame needs."""

from __future__ import annotations

import io
import math
import os
from typing import Any, BinaryIO

from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MPEGTransferSyntaxes,
    RLELossless,
)

from dicom_node.errors import PixelError
from dicom_node.pixels import codestream, jpeg
from dicom_node.pixels.codestream import Codestream
from dicom_node.pixels.instances import Instance, PixelPlace, open_data_set
from dicom_node.pixels.layout import Layout
from dicom_node.pixels.quiet import quiet

_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"})
_SPECTRAL_SELECTION, _FULL_PROGRESSION = "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"
_JPEG_LS = ("pyjpegls", "gdcm")
_OPENJPEG = ("pylibjpeg", "gdcm")

# Which decoders to ask, the first that succeeds wins. "imagecodecs" is ours (jpeg.py), the others are pydicom's plug-ins.
DECODERS: dict[str, tuple[str, ...]] = {
    str(RLELossless): ("pylibjpeg", "pydicom"),
    str(JPEGBaseline8Bit): ("pillow", "gdcm", "imagecodecs"),
    str(JPEGExtended12Bit): ("imagecodecs",),  # pydicom's plug-ins refuse 12 bits
    _SPECTRAL_SELECTION: ("imagecodecs",),  # retired; pydicom has no decoder
    _FULL_PROGRESSION: ("imagecodecs",),
    str(JPEGLossless): ("imagecodecs", "gdcm"),  # three times as fast as gdcm
    str(JPEGLosslessSV1): ("imagecodecs", "gdcm"),
    str(JPEGLSLossless): _JPEG_LS,
    str(JPEGLSNearLossless): _JPEG_LS,
    str(JPEG2000Lossless): _OPENJPEG,
    str(JPEG2000): _OPENJPEG,
    str(HTJ2KLossless): ("pylibjpeg",),
    str(HTJ2KLosslessRPCL): ("pylibjpeg",),
    str(HTJ2K): ("pylibjpeg",),
}
_RLE_BEST = 64  # two coded bytes stand for at most 128 (PS3.5 G.3.1)


def refusal(transfer_syntax: str) -> str:
    """Why pixels in this transfer syntax cannot be decoded here; empty where they can."""
    if transfer_syntax in _NATIVE or transfer_syntax in DECODERS:
        return ""
    if transfer_syntax in MPEGTransferSyntaxes:
        return "its pixels are a video stream, which is not read"
    return f"its transfer syntax {transfer_syntax[:64]} is not supported"


def decode_frame(instance: Instance, layout: Layout, frame_number: int) -> NDArray[Any]:
    """Frame ``frame_number``, counted from 1.

    Returns (rows, columns) for one sample per pixel, in the stored type and native byte order, unused bits as they are;
    (rows, columns, 3) RGB for colour, unused bits cleared. Raises PixelError where the frame is not there, is cut off,
    contradicts the header or no decoder takes it; StorageError where the file cannot be opened.
    """
    place = instance.pixels
    if place is None:
        raise PixelError("it has no pixel data")
    if reason := refusal(instance.transfer_syntax):
        raise PixelError(reason)
    if not 1 <= frame_number <= layout.frames:
        raise PixelError(f"it has {layout.frames} frames, so frame {frame_number} does not exist")
    native = instance.transfer_syntax in _NATIVE
    with open_data_set(instance) as file, quiet():
        pixels = (_native if native else _encapsulated)(instance, layout, place, file, frame_number - 1)
    expected = (layout.rows, layout.columns, 3)[: 3 if layout.samples == 3 else 2]
    if pixels.shape != expected:
        raise PixelError("its pixel data do not have the size that its header states")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _native(instance: Instance, layout: Layout, place: PixelPlace, file: BinaryIO, index: int) -> NDArray[Any]:
    if place.length is None:
        raise PixelError("its pixels are encapsulated, but its transfer syntax is an uncompressed one")
    needed = math.ceil(layout.stored_frame_bytes * (index + 1))
    there = min(place.length, file.seek(0, os.SEEK_END) - place.offset)
    if there < needed:
        raise PixelError(f"its pixel data are cut off ({max(0, there)} bytes of {needed})")
    file.seek(place.offset)
    return _by_pydicom(instance.transfer_syntax, layout, place, file, index, "")


def _encapsulated(instance: Instance, layout: Layout, place: PixelPlace, file: BinaryIO, index: int) -> NDArray[Any]:
    if place.length is not None:
        raise PixelError("its pixels are not encapsulated, but its transfer syntax is a compressed one")
    coded = _coded_frame(instance.header, layout, place, file, index)
    stream = codestream.parse(coded)
    _check_stream(stream, layout, coded, instance.transfer_syntax)
    failures: list[BaseException] = []
    for name in DECODERS[instance.transfer_syntax]:
        try:
            if name == "imagecodecs":
                return jpeg.decode(coded, stream, layout)
            frame = io.BytesIO(encapsulate([coded], has_bot=False))
            return _by_pydicom(instance.transfer_syntax, layout, place, frame, 0, name)
        except BaseException as error:
            if not _is_decoder_failure(error):
                raise
            failures.append(error)
    raise PixelError("its compressed pixel data are damaged or of a kind that no decoder here takes") from failures[-1]


def _is_decoder_failure(error: BaseException) -> bool:
    """A foreign decoder raises anything; the Rust ones even panic, as a BaseException of a module nobody can import."""
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"


def _coded_frame(header: Dataset, layout: Layout, place: PixelPlace, file: BinaryIO, index: int) -> bytes:
    offsets, lengths = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
    extended = (offsets, lengths) if offsets and lengths else None
    file.seek(place.offset)
    try:
        return get_frame(file, index, number_of_frames=layout.frames, extended_offsets=extended)
    except Exception as error:
        raise PixelError(f"its pixel data are cut off or damaged before frame {index + 1}") from error


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


def _by_pydicom(syntax: str, layout: Layout, place: PixelPlace, source: BinaryIO, index: int, plugin: str) -> NDArray[Any]:
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
        "pixel_keyword": place.keyword,
        "pixel_vr": place.vr,
    }
    if _bits_cleared_by_table(layout):
        options["correct_unused_bits"] = False
    array, _properties = get_decoder(UID(syntax)).as_array(source, index=index, decoding_plugin=plugin, **options)
    return array


def _bits_cleared_by_table(layout: Layout) -> bool:
    """Grey of up to 16 bits goes through a table that ignores unused bits (values.py): no pass over the pixels for them."""
    return layout.samples == 1 and layout.bits_allocated <= 16
