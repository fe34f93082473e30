"""From a stored file to the picture a person would see: which frames, decoding, values, window."""

from dicom_node.pixels.frames import Chosen, Selection, select_frames
from dicom_node.pixels.instances import Instance, read_instance
from dicom_node.pixels.render import render_frame

__all__ = ["Chosen", "Instance", "Selection", "read_instance", "render_frame", "select_frames"]
