"""Files that may be lost at any time and are never believed unread: content behind its own sha256, written whole or not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path


def write_checked(path: Path, content: bytes) -> bool:
    """Write ``content`` behind its sha256, beside and renamed, making the folder. False where the disk does not let us."""
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # two processes may write at once
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        part.replace(path)
    except OSError:
        if part:
            with contextlib.suppress(OSError):
                part.unlink()
        return False
    return True


def read_checked(path: Path) -> bytes | None:
    """The content, or None where the file is absent, cannot be read, or differs from its sha256."""
    try:
        written = path.read_bytes()
    except OSError:
        return None
    digest, _, content = written.partition(b"\n")
    return content if hashlib.sha256(content).hexdigest().encode() == digest else None
