"""Files: received instances and built documents under one root.

Everything is written beside its place, fsynced, renamed, and the folder fsynced: a file that can be seen is whole, and one
that was reported as written survives a power cut. A UID never becomes part of a path unhashed. A received instance is named
by the digests of its UIDs and its number among those that came under its UID, which the database gives out: none overwrites
another. (Stores of version 0.1.0 have the digest of the bytes in the number's place; those files stay as they are.)

    spool/      partial files, "<place>_<pid>_<start>_<n>.part"
    instances/  <2 hex>/<study>/<instance>-<number>.dcm
    documents/  <2 hex>/<document>-<digest of its bytes>.<suffix>

Where several machines share the root, two may write the same document, one of them with a lease that it has lost: each has a
file of its own, and the row says which one counts.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import StorageError, StorageFull
from dicom_node.storage.arriving import ArrivingFile
from dicom_node.storage.owner import current_owner, owner_alive, place
from dicom_node.storage.paths import digest, make_folders, sync_folder, translated, write_all

_FOREIGN_ORPHAN_AGE_S = 24 * 3600  # another host's partial file: no association lasts a day


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is on the disk for good. ``path`` is relative to the root; ``size`` in bytes; ``sha256`` in hexadecimal."""

    path: str
    size: int
    sha256: str


def _disk_free(path: Path) -> int:
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


class FileStore:
    """The files of one node. ``free_bytes`` tells the room left on the disk of a path, in bytes."""

    def __init__(self, root: str | Path, *, free_bytes: Callable[[Path], int] = _disk_free) -> None:
        self.root = Path(root)
        self._spool = self.root / "spool"
        self._free_bytes = free_bytes
        self._numbers = itertools.count()
        self._owner = current_owner().replace(":", "_")
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
        return SpoolFile(self.root, Path(self._new_part()), prefix)

    def arriving(self, head: bytes) -> ArrivingFile:
        """Begin the partial file of a received object with ``head``, its file meta. Raises as ``spool``."""
        return ArrivingFile(str(self.root), self._new_part(), head)

    def place_for(self, study_uid: str, sop_uid: str, copy: int, arriving: ArrivingFile) -> str:
        """Where copy number ``copy`` of an instance goes, relative to the root.

        A file may lie there that no row knows: a crash came between rename and commit, or the database was set back. The
        same bytes may be replaced; others are left alone.
        """
        study = digest(study_uid)
        name = f"instances/{study[:2]}/{study}/{digest(sop_uid)}-{copy}"
        for ending in itertools.chain([""], (f"-{number}" for number in itertools.count(1))):
            path = f"{self.root}/{name}{ending}.dcm"
            if not os.path.exists(path) or arriving.same_data_set(path, arriving.size):  # noqa: PTH110 - for every image
                break
        return f"{name}{ending}.dcm"

    def _new_part(self) -> str:
        return f"{self._spool}/{self._owner}_{next(self._numbers)}.part"

    def clean_spool(self, alive: Callable[[str], bool] = owner_alive) -> int:
        """Delete partial files whose process is gone; how many there were. Called once when a node starts.

        Of processes elsewhere, who share this folder, only what is older than any association can be.
        """
        orphans = [path for path in self._spool.glob("*.part") if _is_orphan(path, alive)]
        for path in orphans:
            path.unlink(missing_ok=True)
        return len(orphans)

    def write_document(self, uid: str, data: bytes, suffix: str = ".dcm") -> StoredFile:
        """Write a document under the digests of its UID and its bytes: the same again takes the same place."""
        name = digest(uid)
        relative = f"documents/{name[:2]}/{name}-{hashlib.sha256(data).hexdigest()[:16]}{suffix}"
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
                write_all(self._file.fileno(), prefix)
            except OSError:
                self.discard()
                raise

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        with translated(self.path):
            write_all(self._file.fileno(), data)
        self._digest.update(data)
        self.size += len(data)

    def keep(self, study_uid: str, sop_uid: str) -> StoredFile:
        """Make it an instance of the store, on the disk for good when this returns."""
        study, instance = digest(study_uid), digest(sop_uid)
        return self.move_to(f"instances/{study[:2]}/{study}/{instance}-{self.sha256[:16]}.dcm")

    def move_to(self, relative: str) -> StoredFile:
        target = self._root / relative
        with translated(target):
            os.fsync(self._file.fileno())
            self._file.close()
            make_folders(target.parent, self._root)
            self.path.rename(target)
            sync_folder(target.parent)
        return StoredFile(relative, self.size, self.sha256)

    def discard(self) -> None:
        """Delete the partial file; nothing happens when it has been kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def _is_orphan(path: Path, alive: Callable[[str], bool]) -> bool:
    owner = ":".join(path.stem.split("_")[:3])
    if not alive(owner):
        return True
    if owner.split(":")[0] == place():
        return False
    try:  # both by the clock of the file system, whatever this machine's says; the folder changes with every file
        return path.parent.stat().st_mtime - path.stat().st_mtime > _FOREIGN_ORPHAN_AGE_S
    except FileNotFoundError:
        return False


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` as ``path``, on the disk for good, or not at all. Raises StorageFull, StorageBusy or StorageError."""
    part = path.with_name(f".{path.name}.part")
    with translated(path):
        with part.open("wb") as file:
            write_all(file.fileno(), data)
            os.fsync(file.fileno())
        part.rename(path)
        sync_folder(path.parent)
