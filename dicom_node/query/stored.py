"""Stored Part 10 files as they are sent on: where their data set begins."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_GROUP_LENGTH: Final = b"\x02\x00\x00\x00UL\x04\x00"
_HEAD: Final = 144  # bytes: preamble, DICM, and the group length of the file meta (PS3.10 7.1)


def data_set_offset(path: Path) -> int | None:
    """Bytes before the data set; None for a file that is gone or no Part 10 file of the usual form."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if head[128:132] != b"DICM" or head[132:140] != _GROUP_LENGTH:
        return None
    return _HEAD + int.from_bytes(head[140:144], "little")
