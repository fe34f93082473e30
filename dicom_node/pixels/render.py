"""One frame of a stored file as the picture a person would see."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RLELossless

from dicom_node.errors import PixelError, StorageError
from dicom_node.pixels.decode import decode_frame
from dicom_node.pixels.describe import body_part, modality, source, view
from dicom_node.pixels.instances import Instance
from dicom_node.pixels.layout import Layout, layout_of
from dicom_node.pixels.lut import Values
from dicom_node.pixels.palette import palette_table
from dicom_node.pixels.quiet import quiet
from dicom_node.pixels.values import is_tabular, modality_values, padding_mask, pixel_spacing_mm, rgb8, stored_table
from dicom_node.pixels.window import Mapping, MinMax, is_inverted, stated_mapping, to_8_bit
from inference.reading import Frame

_PIECE = 1 << 15  # pixels
_EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_BIT_ALIGNED = frozenset(
    {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", _EXPLICIT_BIG_ENDIAN, str(RLELossless)}
)  # syntaxes that keep a cell's unused bits; the others carry values only


def render_frame(instance: Instance, frame_number: int) -> Frame:
    """Frame ``frame_number``, counted from 1, as ``inference.reading.Frame`` describes it.

    Raises PixelError, with a reason, where it cannot be shown truthfully; StorageError where the file cannot be opened.
    Safe to call from several threads.
    """
    try:
        with quiet():
            return _render(instance, frame_number)
    except (PixelError, StorageError):
        raise
    except MemoryError as error:
        raise StorageError("there is not enough memory to show this frame now") from error
    except Exception as error:  # pydicom converts elements when they are asked for, and raises anything on damaged ones
        raise PixelError(f"its header or pixel data are damaged ({type(error).__name__})") from error


def _render(instance: Instance, frame_number: int) -> Frame:
    layout = layout_of(instance)
    pixels = decode_frame(instance, layout, frame_number)
    shown, label = _shown(instance, layout, pixels, frame_number)
    header = instance.header
    return Frame(
        pixels=np.ascontiguousarray(shown),
        source=source(header, frame_number),
        modality=modality(header),
        body_part=body_part(header, frame_number),
        view=view(header),
        window=label,
        pixel_spacing_mm=pixel_spacing_mm(header, frame_number),
    )


def _shown(instance: Instance, layout: Layout, pixels: NDArray[Any], frame_number: int) -> tuple[NDArray[np.uint8], str]:
    little_endian = instance.transfer_syntax != _EXPLICIT_BIG_ENDIAN
    if layout.samples == 3:
        return rgb8(pixels, layout), "colour as stored"
    if not is_tabular(layout, pixels):
        if layout.photometric == "PALETTE COLOR":
            raise PixelError(f"a colour palette for {layout.bits_allocated} bits is not possible")
        return _grey(instance.header, layout, pixels.astype(np.float64), None, frame_number, little_endian)
    cells = pixels.view(f"u{pixels.dtype.itemsize}")
    stored = stored_table(layout, 8 * cells.dtype.itemsize, instance.transfer_syntax not in _BIT_ALIGNED)
    if layout.photometric == "PALETTE COLOR":
        table = palette_table(instance.header, stored, layout.signed, little_endian)
        return table[cells], "colour palette of file"
    grey, label = _grey(instance.header, layout, stored, cells, frame_number, little_endian)
    return _looked_up(grey, cells), label


def _grey(
    header: Dataset, layout: Layout, stored: Values, cells: NDArray[Any] | None, frame_number: int, little_endian: bool
) -> tuple[NDArray[np.uint8], str]:
    """8-bit grey for each of ``stored``. ``cells``: the pixels as indices into it, None where ``stored`` is the pixels."""
    padding = padding_mask(stored, header, layout) | ~np.isfinite(stored)
    values = modality_values(np.where(np.isfinite(stored), stored, 0.0), header, layout, frame_number, little_endian)
    mapping: Mapping | None = stated_mapping(header, frame_number, _can_be_negative(values, layout), little_endian)
    if mapping is None:
        mapping = _min_max(values, padding, cells)
    shown = to_8_bit(mapping.brightness(values), is_inverted(header, layout.photometric))
    shown[padding] = 0  # background, whatever the window and polarity
    return shown, mapping.label


def _looked_up(table: NDArray[np.uint8], cells: NDArray[Any]) -> NDArray[np.uint8]:
    """``table[cells]`` in pieces that stay in the cache: half the time of one indexing of a radiograph."""
    flat = np.ascontiguousarray(cells).reshape(-1)
    shown = np.empty(flat.shape, dtype=np.uint8)
    for start in range(0, flat.size, _PIECE):
        np.take(table, flat[start : start + _PIECE], out=shown[start : start + _PIECE], mode="clip")  # never clips: 2**bits
    return shown.reshape(cells.shape)


def _can_be_negative(values: Values, layout: Layout) -> bool:
    return layout.signed or bool(values.min() < 0)


def _min_max(values: Values, padding: NDArray[np.bool_], cells: NDArray[Any] | None) -> MinMax:
    """Of the pixels that are there: padding is no measurement."""
    counted = ~padding
    if cells is not None:
        present = np.zeros(values.shape, dtype=np.bool_)
        present[cells] = True
        counted &= present
    if not counted.any():
        return MinMax(0.0, 0.0)
    chosen = values[counted]
    return MinMax(float(chosen.min()), float(chosen.max()))
