"""Stored Part 10 files as they are sent on: where their data set begins, and native ones in another native encoding."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.pixels.quiet import quiet

_NATIVE: Final = (str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian))
_GROUP_LENGTH: Final = b"\x02\x00\x00\x00UL\x04\x00"
_HEAD: Final = 144  # bytes: preamble, DICM, and the group length of the file meta (PS3.10 7.1)
_MOST: Final = 512 << 20  # bytes of a file that is re-encoded in memory


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


@contextmanager
def reencoded(path: Path, syntax: str) -> Iterator[Path | None]:
    """A data set without file meta in another native transfer syntax, gone at the end; None where that cannot be done."""
    if syntax not in _NATIVE:
        yield None
        return
    with tempfile.NamedTemporaryFile(prefix="wetread-", suffix=".part") as out:
        yield Path(out.name) if _write(path, syntax, Path(out.name)) else None


def _write(path: Path, syntax: str, target: Path) -> bool:
    try:
        if path.stat().st_size > _MOST:
            return False
        with quiet():
            dataset = dcmread(path)
            if str(dataset.file_meta.TransferSyntaxUID) not in _NATIVE:
                return False
            del dataset.file_meta
            implicit = syntax == str(ImplicitVRLittleEndian)
            dcmwrite(target, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    except Exception:  # noqa: BLE001  a file that pydicom cannot write again is sent as it is or not at all
        return False
    return True
