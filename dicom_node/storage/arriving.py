"""A received object on its way into the store.

Its bytes may come straight from a socket (``splice``), so nothing here looks at them: an arriving object has no digest. What
is already held under its UID is compared byte for byte instead, which costs nothing until a UID comes twice.
"""

from __future__ import annotations

import os
from contextlib import suppress

from dicom_node.storage.paths import make_folders, translated, write_all, write_both

_COMPARED_AT_ONCE = 1 << 20  # bytes


class ArrivingFile:
    """A partial file, seen by nobody until ``move_to``. ``size``: bytes of the data set, without ``head``."""

    def __init__(self, root: str, path: str, head: bytes) -> None:
        self._root = root
        self._descriptor = -1
        self.path = path
        self.head_size = len(head)
        self.size = 0
        self.placed = False  # a file that has its place is never deleted here: its row may have been committed
        self._head: bytes | None = head  # it is written together with the first bytes
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError:
            with translated(path):
                raise

    def write(self, data: bytes | memoryview) -> None:
        """Raises StorageFull, StorageBusy or StorageError."""
        with translated(self.path):
            if self._head is None:
                write_all(self._descriptor, data)
            else:
                write_both(self._descriptor, self._head, data)
                self._head = None
        self.size += len(data)

    @property
    def descriptor(self) -> int:
        """For whoever writes past ``write`` after the first bytes, adds to ``size`` what came, and translates the failures."""
        return self._descriptor

    def finish(self, durable: bool) -> None:
        """No more comes. With ``durable`` the bytes are on the disk when this returns."""
        with translated(self.path):
            if durable:
                os.fdatasync(self._descriptor)
            self._close()

    def same_data_set(self, path: str, size: int) -> bool:
        """Whether the last ``size`` bytes of a stored file are this object's data set. False where there is no such file."""
        if size != self.size:
            return False
        with translated(path), suppress(FileNotFoundError), open(path, "rb") as held, open(self.path, "rb") as mine:  # noqa: PTH123 - twice as quick as Path.open
            held.seek(-size, os.SEEK_END)
            mine.seek(self.head_size)
            while part := mine.read(_COMPARED_AT_ONCE):
                if part != held.read(_COMPARED_AT_ONCE):
                    return False
            return True
        return False

    def move_to(self, relative: str) -> str:
        """Give it its place, replacing what is there; the folder, still to be fsynced, is returned."""
        target = f"{self._root}/{relative}"
        folder = os.path.dirname(target)  # noqa: PTH120 - on the path of every image
        with translated(target):
            try:
                os.rename(self.path, target)  # noqa: PTH104
            except FileNotFoundError:
                make_folders(folder, self._root)
                os.rename(self.path, target)  # noqa: PTH104
        self.path, self.placed = target, True
        return folder

    def discard(self) -> None:
        """Delete the partial file; nothing happens when it has its place."""
        self._close()
        if not self.placed:
            with suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
