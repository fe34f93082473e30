"""From a stored file to the picture a person would see: which frames, decoding, values, window.

Compressed pixels are decoded in processes of their own (``decoders``). The names below are loaded when first asked for: the
listening process checks the settings of pixels, and reads none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicom_node.pixels.frames import Chosen, Selection, select_frames
    from dicom_node.pixels.instances import Instance
    from dicom_node.pixels.opening import read_instance
    from dicom_node.pixels.options import PixelOptions
    from dicom_node.pixels.reader import PixelReader, shared_reader
    from dicom_node.pixels.render import render_frame

__all__ = [
    "Chosen",
    "Instance",
    "PixelOptions",
    "PixelReader",
    "Selection",
    "read_instance",
    "render_frame",
    "select_frames",
    "shared_reader",
]

_MODULES = {
    "frames": ("Chosen", "Selection", "select_frames"),
    "instances": ("Instance",),
    "opening": ("read_instance",),
    "options": ("PixelOptions",),
    "reader": ("PixelReader", "shared_reader"),
    "render": ("render_frame",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
