"""From stored to modality values (PS3.3 C.7.6.3.1, C.11.1): meant to run over a table of all stored values, not over pixels."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.errors import PixelError
from dicom_node.pixels.groups import frame_scopes, frame_value
from dicom_node.pixels.layout import TABLE_BITS, Layout
from dicom_node.pixels.lut import Values, looked_up, lut_of


def number(value: object) -> float | None:
    """``value`` as a finite number, the first where there are several; None where it is none."""
    if isinstance(value, (list, tuple)) or (hasattr(value, "__getitem__") and not isinstance(value, (str, bytes))):
        items = cast("Any", value)
        value = items[0] if len(items) else None
    try:
        result = float(cast("Any", value))
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def stored_values(layout: Layout) -> Values:
    """The value of each of the 2**Bits Stored patterns, sign extended (PS3.5 8.1.1)."""
    return _signed(np.arange(1 << layout.bits_stored, dtype=np.int64), layout).astype(np.float64)


def patterns(layout: Layout, right_aligned: bool) -> NDArray[np.intp]:
    """Which pattern each value of a cell holds: the place in ``stored_values``. Unused bits are dropped.

    Overlays once lived in the unused bits (retired PS3.3 C.9.2), so they must not reach the picture. ``right_aligned``:
    a codec gave the values, so that High Bit no longer counts.
    """
    shift = 0 if right_aligned else max(0, layout.high_bit + 1 - layout.bits_stored)
    cells = np.arange(1 << 8 * max(1, layout.bits_allocated // 8), dtype=np.intp)
    return (cells >> shift) & ((1 << layout.bits_stored) - 1)


def _signed(cells: NDArray[np.int64], layout: Layout) -> NDArray[np.int64]:
    if not layout.signed:
        return cells
    sign = 1 << (layout.bits_stored - 1)
    return (cells ^ sign) - sign


def modality_values(stored: Values, header: Dataset, layout: Layout, frame_number: int, little_endian: bool) -> Values:
    """After the Modality LUT: sequence first, else rescale; identity where the header has neither or no usable slope."""
    for scope in frame_scopes(header, frame_number, "PixelValueTransformationSequence"):
        if sequence := scope.get("ModalityLUTSequence"):
            return lut_of(sequence[0], layout.signed, little_endian).at(stored).astype(np.float64)
        slope, intercept = number(scope.get("RescaleSlope")), number(scope.get("RescaleIntercept"))
        if slope or intercept:
            return stored * (slope or 1.0) + (intercept or 0.0)
    return stored


def padding_mask(stored: Values, header: Dataset, layout: Layout) -> NDArray[np.bool_]:
    """Which values stand for "no pixel here" (PS3.3 C.7.5.1.1.2): grey only."""
    first = header.get("PixelPaddingValue", header.get("FloatPixelPaddingValue"))
    if first is None or number(first) is None or not layout.photometric.startswith("MONOCHROME"):
        return np.zeros(stored.shape, dtype=np.bool_)
    last = header.get("PixelPaddingRangeLimit", header.get("FloatPixelPaddingRangeLimit", first))
    bounds = sorted(_like_stored(value, layout) for value in (first, last if number(last) is not None else first))
    return (stored >= bounds[0]) & (stored <= bounds[1])


def _like_stored(value: object, layout: Layout) -> float:
    """Senders write -2000 as the unsigned 63536 and the reverse: read the bits as the pixels are read."""
    exact = cast("float", number(value))
    if layout.bits_allocated > TABLE_BITS or not exact.is_integer():
        return exact
    bits = (1 << layout.bits_allocated) - 1
    if exact < 0 and not layout.signed and layout.bits_stored < layout.bits_allocated:
        return exact
    cell = int(exact) & bits
    sign = 1 << (layout.bits_allocated - 1)
    return float((cell ^ sign) - sign if layout.signed else cell)


def rgb8(pixels: NDArray[Any], layout: Layout) -> NDArray[np.uint8]:
    """(rows, columns, 3) of any unsigned width to 8 bits per sample, in proportion to the full range."""
    if layout.signed or pixels.dtype.kind not in "ui":
        raise PixelError("its colour samples are not unsigned integers")
    top = (1 << layout.bits_stored) - 1
    if top == 0xFF and pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.itemsize <= 2:
        table = np.minimum(np.arange(1 << 8 * pixels.dtype.itemsize) * (255 / top) + 0.5, 255).astype(np.uint8)
        return looked_up(table, pixels)
    return np.minimum(pixels * (255 / top) + 0.5, 255).astype(np.uint8)


def pixel_spacing_mm(header: Dataset, frame_number: int) -> tuple[float, float] | None:
    """Between rows, between columns: in the patient where the file says so, else at the detector (PS3.3 10.7.1.3)."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        value = cast("Any", frame_value(header, frame_number, "PixelMeasuresSequence", keyword))
        if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != 2:
            continue
        rows, columns = number(value[0]), number(value[1])
        if rows and columns and rows > 0 and columns > 0:
            return rows, columns
    return None
