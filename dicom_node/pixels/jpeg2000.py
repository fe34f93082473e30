"""JPEG 2000 and High-Throughput JPEG 2000 at a part of their resolution: the coarser levels of the wavelet alone.

By Pillow's ``reduce``, which is OpenJPEG's. Not by imagecodecs' ``skipres``, which gives wrong pixels for HTJ2K.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.errors import PixelError
from dicom_node.pixels.codestream import Codestream
from dicom_node.pixels.layout import Layout

_WIDE_BITS = 16  # Pillow spreads grey of 9 to 16 bits over all 16, and moves signed values up so that none is negative
_SIGN = np.uint16(1 << (_WIDE_BITS - 1))


def decode_reduced(coded: bytes, stream: Codestream, layout: Layout, reduce: int) -> NDArray[Any]:
    """Grey, each side halved ``reduce`` times, rounded up, in the stored type and scale.

    Each value stands for a square of pixels, about as their mean does. Raises PixelError where the values were not of the
    kind that the header states; else as Pillow.
    """
    with Image.open(io.BytesIO(coded)) as image:
        image.reduce = reduce  # type: ignore[assignment,method-assign]  # the plug-in reads it from there
        pixels = np.asarray(image)
    wide = stream.precision > 8
    if pixels.shape != reduced_shape(layout, reduce) or pixels.dtype != (np.uint16 if wide else np.uint8):
        raise PixelError("its compressed pixels are of a kind that is read whole only")
    if stream.signed != layout.signed or (layout.signed and not wide) or pixels.dtype.itemsize * 8 != layout.bits_allocated:
        raise PixelError("its compressed pixels are of a kind that is read whole only")
    if wide:
        pixels = (pixels ^ _SIGN).view(np.int16) if layout.signed else pixels
        pixels = pixels >> (_WIDE_BITS - stream.precision)
    down = _centred(pixels[:-1], pixels[1:], pixels[-1:], 0, reduce)
    return _centred(down[:, :-1], down[:, 1:], down[:, -1:], 1, reduce)


def _centred(pixels: NDArray[Any], following: NDArray[Any], last: NDArray[Any], axis: int, reduce: int) -> NDArray[Any]:
    """Moved to the middles of the squares that they stand for, along ``axis``; the ``last`` have nothing to move to.

    The wavelet's coarse values lie at every 2**reduce-th pixel (ISO/IEC 15444-1 F.4): too early, by half a square.
    """
    after = (1 << reduce) - 1  # of 2 << reduce parts
    mixed = (following.astype(np.int32) - pixels) * after
    mixed += 1 << reduce
    mixed >>= reduce + 1
    mixed += pixels
    return np.concatenate([mixed.astype(pixels.dtype), last], axis)


def reduced_shape(layout: Layout, reduce: int) -> tuple[int, int]:
    return -(-layout.rows >> reduce), -(-layout.columns >> reduce)  # rounded up


def decode_high_throughput(coded: bytes, layout: Layout) -> NDArray[Any]:
    """Grey High-Throughput JPEG 2000 by OpenJPH: a quarter of OpenJPEG's time. Raises PixelError for other kinds."""
    import imagecodecs  # loads dozens of codecs: only when one is needed

    pixels: NDArray[Any] = imagecodecs.htj2k_decode(coded)
    if pixels.ndim != 2 or pixels.dtype != np.dtype(f"{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}"):
        raise PixelError("its compressed pixels are of a kind that OpenJPEG must read")
    return pixels
