"""Copying files so that each is whole, and is what it should be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from dicom_node.storage.paths import translated

_AT_ONCE: Final = 1 << 20  # bytes


def copy_file(source: Path, target: Path) -> tuple[int, str]:
    """Copy beside the target and rename; bytes and SHA-256 of what was read.

    Raises FileNotFoundError where there is no source, StorageFull, StorageBusy or StorageError for the target.
    """
    digest, size = hashlib.sha256(), 0
    part = target.with_name(f".{target.name}.part")
    with source.open("rb") as data, translated(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            while block := data.read(_AT_ONCE):
                digest.update(block)
                size += len(block)
                out.write(block)
            out.flush()
            os.fdatasync(out.fileno())
        part.rename(target)
    return size, digest.hexdigest()


def digest_of(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256 of a file. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as data:
        while block := data.read(_AT_ONCE):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
