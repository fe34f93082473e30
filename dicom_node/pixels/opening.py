"""Open a stored file: plain headers here, those that could cost much first in a decoder process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dicom_node.pixels.decoders import Decoders, shared_decoders
from dicom_node.pixels.instances import Instance, LongHeader, read_here

PLAIN_HEADER_BYTES: Final = 1 << 20  # pydicom takes a few hundred ms and less than 100 MiB for the worst of this length


def read_instance(path: Path, decoders: Decoders | None = None) -> Instance:
    """Read a DICOM file up to its pixel data.

    A header that could be made to cost much memory or time (a long or a deflated one) is first read by a decoder process
    (of ``decoders``, or of those that this process shares), within its limits.

    Raises PixelError where it is not DICOM or is damaged before its pixels, StorageError where it cannot be opened.
    """
    try:
        return read_here(path, PLAIN_HEADER_BYTES)
    except LongHeader:
        (decoders or shared_decoders()).inspect(path)
        return read_here(path)
