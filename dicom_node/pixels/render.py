"""One frame of a stored file as the picture a person would see."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RLELossless

from dicom_node.errors import PixelError, StorageError
from dicom_node.pixels.decode import decode_frame
from dicom_node.pixels.decoders import Decoders, shared_decoders
from dicom_node.pixels.describe import body_part, modality, source, view
from dicom_node.pixels.instances import Instance
from dicom_node.pixels.layout import Layout, layout_of
from dicom_node.pixels.look import AS_STORED, Look
from dicom_node.pixels.lut import Values, looked_up, present
from dicom_node.pixels.mask import outside_regions, shutter
from dicom_node.pixels.palette import palette_table
from dicom_node.pixels.quiet import quiet
from dicom_node.pixels.reduction import averaged, bands_of, halvings
from dicom_node.pixels.values import modality_values, padding_mask, patterns, pixel_spacing_mm, rgb8, stored_values
from dicom_node.pixels.window import Mapping, MinMax, Window, is_inverted, stated_mapping, to_8_bit
from inference.reading import Frame

_EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_PALETTE = "colour palette of file"
_NO_PROFILE = ", its ICC profile not applied: the models know sRGB, and are not known to profit from more"
_BIT_ALIGNED = frozenset(
    {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", _EXPLICIT_BIG_ENDIAN, str(RLELossless)}
)  # syntaxes that keep a cell's unused bits; the others carry values only


def render_frame(instance: Instance, frame_number: int, decoders: Decoders | None = None, look: Look = AS_STORED) -> Frame:
    """Frame ``frame_number``, counted from 1, as ``inference.reading.Frame`` describes it.

    Compressed pixels are decoded by ``decoders``, or those that this process shares.

    Raises PixelError, with a reason, where it cannot be shown truthfully; StorageError where the file cannot be opened.
    Safe to call from several threads.
    """
    try:
        with quiet():
            return _render(instance, frame_number, decoders or shared_decoders(), look)
    except (PixelError, StorageError):
        raise
    except MemoryError as error:
        raise StorageError("there is not enough memory to show this frame now") from error
    except Exception as error:  # pydicom converts elements when they are asked for, and raises anything on damaged ones
        raise PixelError(f"its header or pixel data are damaged ({type(error).__name__})") from error


def _render(instance: Instance, frame_number: int, decoders: Decoders, look: Look) -> Frame:
    layout = layout_of(instance)
    header = instance.header
    if layout.samples == 3:
        shown, label = _colour(instance, layout, frame_number, decoders)
    elif not layout.is_tabular:
        shown, label = _computed(instance, layout, frame_number, decoders, look)
    else:
        shown, label = _tabular(instance, layout, frame_number, decoders, look)
    shown, label = _masked(shown, label, header, frame_number, look)
    return Frame(
        pixels=np.ascontiguousarray(shown),
        source=source(header, frame_number),
        modality=modality(header),
        body_part=body_part(header, frame_number),
        view=view(header),
        window=label,
        pixel_spacing_mm=pixel_spacing_mm(header, frame_number),
        full_size=None if shown.shape[:2] == (layout.rows, layout.columns) else (layout.rows, layout.columns),
    )


Shown = tuple[NDArray[np.uint8], str]


def _colour(instance: Instance, layout: Layout, frame_number: int, decoders: Decoders) -> Shown:
    pixels = rgb8(decode_frame(instance, layout, frame_number, decoders), layout)
    return pixels, "colour as stored" + (_NO_PROFILE if "ICCProfile" in instance.header else "")


def _computed(instance: Instance, layout: Layout, frame_number: int, decoders: Decoders, look: Look) -> Shown:
    """Floats and integers of more than 16 bits: pixel by pixel."""
    if layout.photometric == "PALETTE COLOR":
        raise PixelError(f"a colour palette for {layout.bits_allocated} bits is not possible")
    stored = decode_frame(instance, layout, frame_number, decoders).astype(np.float64)
    scale = _Scale(instance, layout, frame_number, look, stored)
    mapping = scale.mapping or _min_max(scale.values, scale.padding, None)
    return scale.shown(mapping), mapping.label


def _tabular(instance: Instance, layout: Layout, frame_number: int, decoders: Decoders, look: Look) -> Shown:
    """Grey of up to 16 bits: a table of what each stored value shows, then one look into it for each pixel."""
    right_aligned = instance.transfer_syntax not in _BIT_ALIGNED
    stored, places = stored_values(layout), patterns(layout, right_aligned)
    if layout.photometric == "PALETTE COLOR":
        table = palette_table(instance.header, stored, layout.signed, _little(instance))
        return looked_up(table[places], _cells(decode_frame(instance, layout, frame_number, decoders))), _PALETTE
    scale = _Scale(instance, layout, frame_number, look, stored)
    times = halvings(layout, instance.header, scale.mapping) if look.fast and not look.only_regions else 0
    cells = _cells(decode_frame(instance, layout, frame_number, decoders, times))
    if times:
        if cells.shape == layout.shape:
            cells = averaged(bands_of(cells, times), layout, times, right_aligned)
        places = patterns(layout, right_aligned=True)
    mapping = scale.mapping or _min_max(scale.values, scale.padding, places[present(cells)])
    part = f", at 1/{1 << times} of its resolution" if times else ""
    return looked_up(scale.shown(mapping)[places], cells), mapping.label + part


def _cells(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.view(f"u{pixels.dtype.itemsize}")


def _little(instance: Instance) -> bool:
    return instance.transfer_syntax != _EXPLICIT_BIG_ENDIAN


class _Scale:
    """From ``stored`` values to grey, by header and look. ``mapping`` is None where neither names a window."""

    def __init__(self, instance: Instance, layout: Layout, frame_number: int, look: Look, stored: Values) -> None:
        header, finite = instance.header, np.isfinite(stored)
        self.padding = padding_mask(stored, header, layout) | ~finite
        self.values = modality_values(np.where(finite, stored, 0.0), header, layout, frame_number, _little(instance))
        self._inverted = is_inverted(header, layout.photometric)
        self.mapping: Mapping | None
        if look.window is not None:
            self.mapping = Window(look.window.center, look.window.width, look.function, 0, look.window.name)
        else:
            signed = layout.signed or bool(self.values.min() < 0)
            self.mapping = stated_mapping(header, frame_number, signed, _little(instance))

    def shown(self, mapping: Mapping) -> NDArray[np.uint8]:
        grey = to_8_bit(mapping.brightness(self.values), self._inverted)
        grey[self.padding] = 0  # background, whatever the window and polarity
        return grey


def _masked(shown: NDArray[np.uint8], label: str, header: Dataset, frame_number: int, look: Look) -> Shown:
    rows, columns = shown.shape[:2]
    if shut := shutter(header, frame_number, rows, columns):
        shown = _filled(shown, *shut)
        label += ", display shutter applied"
    if look.only_regions and (outside := outside_regions(header, rows, columns)) is not None:
        shown = _filled(shown, outside, 0)
        label += ", black outside of its ultrasound regions"
    return shown, label


def _filled(shown: NDArray[np.uint8], where: NDArray[np.bool_], level: int) -> NDArray[np.uint8]:
    filled = shown.copy()
    filled[where] = level
    return filled


def _min_max(values: Values, padding: NDArray[np.bool_], places: NDArray[np.intp] | None) -> MinMax:
    """Of the pixels that are there: padding is no measurement. ``places``: which ``values`` the picture has; None for all."""
    counted = ~padding
    if places is not None:
        seen = np.zeros(values.shape, dtype=np.bool_)
        seen[places] = True
        counted &= seen
    if not counted.any():
        return MinMax(0.0, 0.0)
    chosen = values[counted]
    return MinMax(float(chosen.min()), float(chosen.max()))
