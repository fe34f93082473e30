"""Files: received instances and built documents under one root.

Everything is written beside its place, fsynced, renamed, and the folder fsynced: a file that can be seen is whole, and one
that was reported as written survives a power cut. A UID never becomes part of a path unhashed. An instance's name is made of
the digests of its UIDs and of its bytes: the same object takes the same place, other bytes never overwrite.

    spool/      partial files, "<host>-<pid>-<start>-<n>.part"
    instances/  <2 hex>/<study>/<instance>-<bytes>.dcm
    documents/  <2 hex>/<document>.<suffix>
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import StorageBusy, StorageError, StorageFull
from dicom_node.storage.owner import current_owner, host_name, owner_alive

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FOREIGN_ORPHAN_AGE_S = 24 * 3600  # another host's partial file: no association lasts a day


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is on the disk for good. ``path`` is relative to the root; ``size`` in bytes; ``sha256`` in hexadecimal."""

    path: str
    size: int
    sha256: str


def _disk_free(path: Path) -> int:
    return shutil.disk_usage(path).free


class FileStore:
    """The files of one node. ``free_bytes`` tells the room left on the disk of a path, in bytes."""

    def __init__(self, root: str | Path, *, free_bytes: Callable[[Path], int] = _disk_free) -> None:
        self.root = Path(root)
        self._spool = self.root / "spool"
        self._free_bytes = free_bytes
        self._numbers = itertools.count()
        with translated(self.root):
            for folder in (self._spool, self.root / "instances", self.root / "documents"):
                folder.mkdir(parents=True, exist_ok=True)

    def path(self, relative: str) -> Path:
        """The absolute path of a stored file. Raises StorageError for one that would lie outside the root."""
        path = self.root / relative
        if Path(relative).is_absolute() or ".." in Path(relative).parts:
            raise StorageError(f"The stored path {relative!r} lies outside the file store")
        return path

    def free_bytes(self) -> int:
        with translated(self.root):
            return self._free_bytes(self.root)

    def require_room(self, watermark_bytes: int) -> None:
        """Raises StorageFull when less than ``watermark_bytes`` are free."""
        free = self.free_bytes()
        if free < watermark_bytes:
            raise StorageFull(
                f"The disk of {self.root} has {free >> 20} MiB left, less than its watermark {watermark_bytes >> 20} MiB"
            )

    def spool(self, prefix: bytes) -> SpoolFile:
        """Begin a partial file with ``prefix``, which does not count for the digest. Raises StorageBusy or StorageError."""
        path = self._spool / f"{current_owner().replace(':', '_')}_{next(self._numbers)}.part"
        return SpoolFile(self.root, path, prefix)

    def clean_spool(self) -> int:
        """Delete partial files whose process is gone; how many there were. Called once when a node starts."""
        orphans = [path for path in self._spool.glob("*.part") if _is_orphan(path)]
        for path in orphans:
            path.unlink(missing_ok=True)
        return len(orphans)

    def write_document(self, uid: str, data: bytes, suffix: str = ".dcm") -> StoredFile:
        """Write a document under the digest of its UID; the same UID again replaces it in one step."""
        name = _digest(uid)
        relative = f"documents/{name[:2]}/{name}{suffix}"
        spool = self.spool(b"")
        try:
            spool.write(data)
            return spool.move_to(relative)
        finally:
            spool.discard()


class SpoolFile:
    """A partial file, visible to nobody until ``keep``. ``size`` and ``sha256`` are those of the bytes after the prefix."""

    def __init__(self, root: Path, path: Path, prefix: bytes) -> None:
        self._root = root
        self._digest = hashlib.sha256()
        self.path = path
        self.size = 0
        with translated(path):
            self._file = path.open("xb", buffering=0)
            try:
                _write_all(self._file.fileno(), prefix)
            except OSError:
                self.discard()
                raise

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        with translated(self.path):
            _write_all(self._file.fileno(), data)
        self._digest.update(data)
        self.size += len(data)

    def keep(self, study_uid: str, sop_uid: str) -> StoredFile:
        """Make it an instance of the store, on the disk for good when this returns."""
        study, instance = _digest(study_uid), _digest(sop_uid)
        return self.move_to(f"instances/{study[:2]}/{study}/{instance}-{self.sha256[:16]}.dcm")

    def move_to(self, relative: str) -> StoredFile:
        target = self._root / relative
        with translated(target):
            os.fsync(self._file.fileno())
            self._file.close()
            _make_folders(target.parent, self._root)
            self.path.rename(target)
            _sync_folder(target.parent)
        return StoredFile(relative, self.size, self.sha256)

    def discard(self) -> None:
        """Delete the partial file; nothing happens when it has been kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def _digest(uid: str) -> str:
    """32 hexadecimal digits: 128 bits tell any two UIDs apart."""
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _make_folders(folder: Path, root: Path) -> None:
    """Make ``folder`` below ``root``; each new entry is fsynced in its parent."""
    if folder == root or folder.is_dir():
        return
    _make_folders(folder.parent, root)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_orphan(path: Path) -> bool:
    owner = ":".join(path.stem.split("_")[:3])
    if owner.split(":")[0] == host_name():
        return not owner_alive(owner)
    try:
        return time.time() - path.stat().st_mtime > _FOREIGN_ORPHAN_AGE_S
    except FileNotFoundError:
        return False


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` as ``path``, on the disk for good, or not at all. Raises StorageFull, StorageBusy or StorageError."""
    part = path.with_name(f".{path.name}.part")
    with translated(path):
        with part.open("wb") as file:
            _write_all(file.fileno(), data)
            os.fsync(file.fileno())
        part.rename(path)
        _sync_folder(path.parent)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """OSError of ``path`` → StorageFull, StorageBusy (worth another try) or StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(f"There is no room left on the disk of {path.parent}") from error
        if error.errno in {errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ESTALE}:
            raise StorageBusy(f"{path.parent} cannot be used at the moment: {error.strerror}") from error
        raise StorageError(f"{path.parent} cannot be used: {error.strerror}; check that it exists and is writable") from error
