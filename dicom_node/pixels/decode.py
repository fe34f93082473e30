"""One frame of an instance as numbers, never more of the file than that frame needs."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from dicom_node.errors import PixelError
from dicom_node.pixels import codecs
from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.instances import Instance
from dicom_node.pixels.layout import Layout
from dicom_node.pixels.syntaxes import NATIVE, refusal
from dicom_node.pixels.task import Decode

_DEFLATED = "1.2.840.10008.1.2.1.99"


def decode_frame(
    instance: Instance, layout: Layout, frame_number: int, decoders: Decoders, reduce: int = 0, *, raw: bool = False
) -> NDArray[Any]:
    """Frame ``frame_number``, counted from 1, each side halved ``reduce`` times where that is possible.

    Returns (rows, columns) for one sample per pixel, in the stored type and native byte order, unused bits as they are;
    (rows, columns, 3) RGB for colour, unused bits cleared, or as coded where ``raw``. Raises PixelError where the frame is not
    there, is cut off, contradicts the header, no decoder takes it or a decoder fails on it; StorageError where the file cannot
    be opened.
    """
    place = instance.pixels
    if place is None:
        raise PixelError("it has no pixel data")
    if reason := refusal(instance.transfer_syntax):
        raise PixelError(reason)
    if not 1 <= frame_number <= layout.frames:
        raise PixelError(f"it has {layout.frames} frames, so frame {frame_number} does not exist")
    task = Decode(
        path=instance.path,
        transfer_syntax=instance.transfer_syntax,
        layout=layout,
        place=place,
        index=frame_number - 1,
        offsets=extended_offsets(instance),
        reduce=reduce,
        raw=raw,
    )
    return codecs.decode(task) if _is_harmless(task) else decoders.decode(task)


def _is_harmless(task: Decode) -> bool:
    """Uncompressed cells of up to 16 bits: numpy reads them, no foreign code sees them, and the layout bounds the memory."""
    return task.transfer_syntax in NATIVE and task.transfer_syntax != _DEFLATED and task.layout.is_tabular


def extended_offsets(instance: Instance) -> tuple[bytes, bytes] | None:
    offsets, lengths = (instance.header.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"))
    return (offsets, lengths) if isinstance(offsets, bytes) and isinstance(lengths, bytes) and offsets and lengths else None
