"""One image in every transfer syntax that is read, by encoders that are not ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, RLELossless

from .made import dataset, write

Encoder = Callable[[NDArray[Any], int], bytes]
_J2K: Final[dict[str, Any]] = {"level": 0, "codecformat": "j2k"}


def _rle(pixels: NDArray[Any], _bits: int) -> bytes:
    """Each byte plane, most significant first, as literal runs (PS3.5 annex G)."""
    planes = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(-1).view(np.uint8).reshape(-1, pixels.dtype.itemsize).T
    segments = [b"".join(bytes([len(run) - 1]) + run for run in _runs(plane.tobytes())) for plane in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    starts = np.cumsum([64, *(len(segment) for segment in segments)])[:-1]
    return np.array([len(segments), *starts, *[0] * (15 - len(segments))], "<u4").tobytes() + b"".join(segments)


def _runs(plane: bytes) -> list[bytes]:
    return [plane[at : at + 128] for at in range(0, len(plane), 128)]


LOSSLESS: Final[dict[str, Encoder]] = {
    str(RLELossless): _rle,
    "1.2.840.10008.1.2.4.57": lambda pixels, bits: imagecodecs.ljpeg_encode(pixels, bitspersample=bits),
    "1.2.840.10008.1.2.4.70": lambda pixels, bits: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=bits),
    "1.2.840.10008.1.2.4.80": lambda pixels, _bits: imagecodecs.jpegls_encode(pixels),
    "1.2.840.10008.1.2.4.90": lambda pixels, bits: imagecodecs.jpeg2k_encode(
        pixels, reversible=True, bitspersample=bits, **_J2K
    ),
    "1.2.840.10008.1.2.4.201": lambda pixels, _bits: imagecodecs.htj2k_encode(pixels),
}
LOSSY: Final[dict[str, Encoder]] = {
    "1.2.840.10008.1.2.4.50": lambda pixels, _bits: imagecodecs.jpeg8_encode(pixels.astype(np.uint8), level=95),
    "1.2.840.10008.1.2.4.51": lambda pixels, _bits: imagecodecs.jpeg8_encode(pixels, level=98, bitspersample=12),
}


def coded(folder: Path, syntax: str, pixels: NDArray[Any], bits: int, name: str = "coded", **elements: Any) -> Path:
    """A file of ``pixels`` (rows, columns), of ``bits`` stored bits, in the compressed ``syntax``."""
    stream = {**LOSSLESS, **LOSSY}[syntax](pixels, bits)
    made: Dataset = dataset(pixels, BitsStored=bits, HighBit=bits - 1, **elements)
    made.PixelData = encapsulate([stream])
    made["PixelData"].is_undefined_length = True
    return write(folder / f"{name}.dcm", made, syntax)


def with_syntax(content: bytes, syntax: str, really: str = JPEGBaseline8Bit) -> bytes:
    """The file under another transfer syntax UID."""
    old = really.encode()
    new = syntax.encode() + b"\0" * (len(syntax) % 2)
    at = content.index(old)
    end = at + len(old) + len(old) % 2
    delta = len(new) - (end - at)
    length = int.from_bytes(content[140:144], "little") + delta
    return (
        content[:140]
        + length.to_bytes(4, "little")
        + content[144 : at - 2]
        + len(new).to_bytes(2, "little")
        + new
        + content[end:]
    )
