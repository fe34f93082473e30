"""Large grey frames at a part of their resolution: halving both sides until the picture is just large enough for any model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def averaged_shape(layout: Layout, times: int) -> tuple[int, int]:
    """Rows and columns that fill no square are left out."""
    return layout.rows >> times, layout.columns >> times


def band_rows(times: int) -> int:
    return _BAND << times


def bands_of(cells: NDArray[Any], times: int) -> Iterator[NDArray[Any]]:
    """``cells``: (rows, columns)."""
    step = band_rows(times)
    return (cells[start : start + step] for start in range(0, len(cells), step))


def averaged(bands: Iterable[NDArray[Any]], layout: Layout, times: int, right_aligned: bool) -> NDArray[Any]:
    """Means of 2**``times`` squared pixels as unsigned cells, right-aligned: see ``averaged_shape``.

    ``bands``: unsigned, (``band_rows``, columns) each, the last may be shorter; a band is done with when the next is asked for.
    Their unused bits may hold anything unless ``right_aligned``.
    """
    rows, columns = averaged_shape(layout, times)
    means = np.empty((rows, columns), f"u{layout.bits_allocated // 8}")
    for start, band in zip(range(0, rows, _BAND), bands, strict=False):
        squares = band[: (rows - start) << times, : columns << times]
        means[start : start + _BAND] = _means(squares, layout, times, right_aligned)
    return means


def _means(cells: NDArray[Any], layout: Layout, times: int, right_aligned: bool) -> NDArray[Any]:
    step, shift = 1 << times, 2 * times
    narrow = not layout.signed and layout.bits_stored + shift <= 16  # the sum of a square fits a cell
    by_row = cells.reshape(-1, step, cells.shape[1])
    rows: NDArray[Any] = _stored(by_row[:, 0], layout, right_aligned).astype(np.uint16 if narrow else np.int32)
    for at in range(1, step):
        rows += _stored(by_row[:, at], layout, right_aligned)
    by_column = rows.reshape(rows.shape[0], -1, step)
    sums: NDArray[Any] = by_column[..., 0] + by_column[..., 1]
    for at in range(2, step):
        sums += by_column[..., at]
    sums += 1 << (shift - 1)
    sums >>= shift
    return sums


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
