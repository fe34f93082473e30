"""JPEG in all its processes, by libjpeg-turbo: those of 12 bits, progressive and lossless that pydicom's plug-ins refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.pixels.codestream import Codestream
from dicom_node.pixels.layout import Layout


def decode(coded: bytes, stream: Codestream | None, layout: Layout) -> NDArray[Any]:
    """(rows, columns), or (rows, columns, 3) RGB; unsigned, as wide as ``layout.bits_allocated``. Raises as imagecodecs."""
    import imagecodecs  # loads dozens of codecs: only when one is needed

    if layout.samples == 1:
        pixels = imagecodecs.jpeg8_decode(coded)
    else:
        ybr = stream is not None and stream.is_ybr(layout.photometric)
        pixels = imagecodecs.jpeg8_decode(coded, colorspace="YCBCR" if ybr else "RGB", outcolorspace="RGB")
    wanted = np.dtype(f"u{max(1, layout.bits_allocated // 8)}")
    return pixels.astype(wanted, casting="safe", copy=False)
