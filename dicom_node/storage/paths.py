"""What all files of the store share: writing whole, folders that last, and foreign errors in the node's own words."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from dicom_node.errors import StorageBusy, StorageError, StorageFull

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def digest(uid: str) -> str:
    """32 hexadecimal digits: 128 bits tell any two UIDs apart."""
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_both(descriptor: int, first: bytes, second: bytes | memoryview) -> None:
    """Write two things with one call where the system takes both at once."""
    written = os.writev(descriptor, (first, second))
    if written < len(first):
        write_all(descriptor, first[written:])
        written = len(first)
    if written < len(first) + len(second):
        write_all(descriptor, memoryview(second)[written - len(first) :])


def make_folders(folder: str | Path, root: str | Path) -> None:
    """Make ``folder`` below ``root``; each new entry is fsynced in its parent."""
    wanted = Path(folder)
    if wanted == Path(root) or wanted.is_dir():
        return
    make_folders(wanted.parent, root)
    wanted.mkdir(exist_ok=True)
    sync_folder(wanted.parent)


def sync_folder(folder: str | Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class translated:  # noqa: N801 - used as a function: ``with translated(path):``
    """OSError of ``path`` → StorageFull, StorageBusy (worth another try) or StorageError."""

    __slots__ = ("_path",)

    def __init__(self, path: str | Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise _translation(error, Path(self._path).parent) from error


def _translation(error: OSError, folder: Path) -> StorageError:
    if error.errno in _NO_ROOM:
        return StorageFull(f"There is no room left on the disk of {folder}")
    if error.errno in {errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ESTALE}:
        return StorageBusy(f"{folder} cannot be used at the moment: {error.strerror}")
    return StorageError(f"{folder} cannot be used: {error.strerror}; check that it exists and is writable")
