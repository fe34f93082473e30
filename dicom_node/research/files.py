"""The run folder: whole files or none, and one run at a time.

run.json          what the run is made with, fixed at its start
parts/            one file per finished study: what a stopped run goes on from
results.parquet · drafts.jsonl · errors.jsonl · manifest.json
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dicom_node.errors import SettingsError, StorageError, StorageFull

_PARTIAL: Final = ".part"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class RunFolder:
    """The folder of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parts = root / "parts"
        self.identity = root / "run.json"
        self.results = root / "results.parquet"
        self.drafts = root / "drafts.jsonl"
        self.errors = root / "errors.jsonl"
        self.manifest = root / "manifest.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and hold it alone; what a killed run left half-written is removed.

        Raises SettingsError where the folder holds something else or another run is at work in it, StorageError where it
        cannot be written.
        """
        with translated(self.root):
            if self.root.is_dir() and not self.identity.exists() and _foreign(self.root):
                raise SettingsError(f"{self.root}: holds other files and no run; name a new or empty folder with --out")
            self.parts.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(lock, self.root)
            for partial in (*self.root.glob(f".*{_PARTIAL}"), *self.parts.glob(f".*{_PARTIAL}")):
                partial.unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write to; when the body ends well it becomes ``path``, durably. Raises StorageError, StorageFull."""
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    with translated(path):
        try:
            yield partial
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text durably as ``path``, or nothing. Raises StorageError, StorageFull."""
    with whole(path) as partial:
        partial.write_text(text, "utf-8")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """OSError of the run folder → StorageError or StorageFull, naming ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(f"{path}: no room left on the disk; make room and give the same command again") from error
        raise StorageError(f"{path}: cannot be used ({error.strerror}); check that it exists and is writable") from error


def _foreign(root: Path) -> bool:
    """A run killed before its first file leaves only its lock and an empty ``parts``."""
    ours = {".lock", "parts", f".run.json{_PARTIAL}"}
    return any(entry.name not in ours for entry in root.iterdir()) or any((root / "parts").glob("*"))


def _lock(descriptor: int, root: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SettingsError(
            f"{root}: another run is at work in this folder; wait for it, or name another with --out"
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
