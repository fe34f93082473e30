"""Large grey frames at a part of their resolution: halving both sides until the picture is just large enough for any model."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.pixels.layout import Layout
from dicom_node.pixels.window import Mapping

LEAST_SIDE: Final = 512  # pixels of the shorter side that are kept: more than twice what the models see of it
_MOST_HALVINGS: Final = 2
_BAND: Final = 16  # rows of means made at once: their pixels stay in the cache
_EXACT = ("PixelPaddingValue", "FloatPixelPaddingValue", "ShutterShape", "ModalityLUTSequence")


def halvings(layout: Layout, header: Dataset, mapping: Mapping | None) -> int:
    """How often both sides may be halved: 0 where single pixels count.

    They do where minimum and maximum set the window, and where values are no measurements whose mean has a meaning: colour,
    palettes, padding, lookup tables.
    """
    if mapping is None or not layout.is_tabular or not layout.photometric.startswith("MONOCHROME"):
        return 0
    if layout.bits_allocated == 1 or any(keyword in header for keyword in _EXACT):
        return 0
    times = 0
    while times < _MOST_HALVINGS and min(layout.rows, layout.columns) >> (times + 1) >= LEAST_SIDE:
        times += 1
    return times


def averaged(cells: NDArray[Any], layout: Layout, times: int, right_aligned: bool) -> NDArray[Any]:
    """Means of 2**``times`` squared pixels as unsigned cells, right-aligned; rows and columns that fill no square are left out.

    ``cells``: unsigned, (rows, columns), whose unused bits may hold anything unless ``right_aligned``.
    """
    rows, columns = layout.rows >> times, layout.columns >> times
    means = np.empty((rows, columns), cells.dtype)
    for start in range(0, rows, _BAND):
        band = cells[start << times : min(start + _BAND, rows) << times, : columns << times]
        means[start : start + _BAND] = _means(_stored(band, layout, right_aligned), times, layout)
    return means


def _means(values: NDArray[Any], times: int, layout: Layout) -> NDArray[Any]:
    step, shift = 1 << times, 2 * times
    narrow = not layout.signed and layout.bits_stored + shift <= 16  # the sum of a square fits a cell
    by_row = (values if narrow else values.astype(np.int32)).reshape(-1, step, values.shape[1])
    rows = by_row[:, 0] + by_row[:, 1]
    for at in range(2, step):
        rows += by_row[:, at]
    by_column = rows.reshape(rows.shape[0], -1, step)
    sums = by_column[..., 0] + by_column[..., 1]
    for at in range(2, step):
        sums += by_column[..., at]
    sums += 1 << (shift - 1)
    return sums >> shift


def _stored(cells: NDArray[Any], layout: Layout, right_aligned: bool) -> NDArray[Any]:
    """Values of unsigned cells, as wide as them or signed."""
    low = 0 if right_aligned else max(0, layout.high_bit + 1 - layout.bits_stored)
    bits = 8 * cells.dtype.itemsize
    used = (1 << layout.bits_stored) - 1
    values = (cells >> low if low else cells) & cells.dtype.type(used) if layout.bits_stored < bits else cells
    if values.dtype == np.uint8:
        values = values.astype(np.uint16)
    if not layout.signed:
        return values
    sign = 1 << (layout.bits_stored - 1)
    return (values.astype(np.int32) ^ sign) - sign
