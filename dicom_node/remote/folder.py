"""A folder as a destination: each document a file, written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
from pathlib import Path

from dicom_node.errors import PeerUnavailable


def put(folder: Path, name: str, content: bytes) -> None:
    """Write ``content`` durably as ``folder / name``; the same name again replaces it with the same bytes.

    Raises PeerUnavailable where the folder cannot be written.
    """
    part = folder / f".{name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{glob.escape(name)}.*.part"):  # by a process that was killed
            left.unlink(missing_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / name)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise PeerUnavailable(f"{folder}: cannot be written ({error.strerror})") from error
