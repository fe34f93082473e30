"""From a stored file to the picture a person would see: which frames, decoding, values, window.

Compressed pixels are decoded in processes of their own (``decoders``).
"""

from dicom_node.pixels.frames import Chosen, Selection, select_frames
from dicom_node.pixels.instances import Instance
from dicom_node.pixels.opening import read_instance
from dicom_node.pixels.reader import PixelOptions, PixelReader, shared_reader
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
