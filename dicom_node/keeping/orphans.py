"""Files that no row names, and rows without their file: what a power cut, a disk or a restored database leaves behind.

Nothing is deleted at once. A file that no row names may be an image that was acknowledged before the database was set back
to an older backup: it is moved to ``orphans/``, told of, and deleted only after ``retention.orphans_days``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.keeping.rules import NEVER
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.noted_files import noted_paths
from dicom_node.storage.paths import digest, make_folders, sync_folder, translated
from dicom_node.storage.stored_paths import Stored, named_paths, stored_documents, stored_images

GRACE_S: Final = 86400.0  # a file is there before its row is; no transaction lasts a day
BUCKETS: Final = 256  # the first two hexadecimal digits of a digest


@dataclass(frozen=True, slots=True)
class Swept:
    """``moved``: files that no row names. ``missing``: rows whose file is not there, by study."""

    moved: tuple[Path, ...] = ()
    missing: tuple[Stored, ...] = ()


def sweep(db: Database, files: FileStore, bucket: int, now: float) -> Swept:
    """Look through one of ``BUCKETS`` parts of the store. Raises StorageError, StorageBusy."""
    name = f"{bucket % BUCKETS:02x}"
    with db.read() as conn:  # one view: what is purged meanwhile is not missing
        held = {**stored_images(conn, lambda uid: digest(uid).startswith(name))}
        held |= stored_documents(conn, lambda uid: digest(uid).startswith(name))
    lying = {path.relative_to(files.root).as_posix(): path for path in _files(files.root, name)}
    missing = [row for path, row in held.items() if path not in lying and not files.path(path).exists()]
    strange = [path for relative, path in sorted(lying.items()) if relative not in held and _older(path, now - GRACE_S)]
    moved = tuple(_put_aside(db, files, strange, now - GRACE_S))
    return Swept(moved, tuple(_brought_back(files, _still_named(db, missing))))


def delete_orphans(files: FileStore, before: float) -> int:
    """Delete what was put aside before ``before``; how many files."""
    if before == NEVER:
        return 0
    old = [path for path in _files_below(files.root / "orphans") if _older(path, before)]
    for path in old:
        with translated(path):
            path.unlink(missing_ok=True)
    return len(old)


def _put_aside(db: Database, files: FileStore, paths: list[Path], before: float) -> Iterator[Path]:
    """Moved first and looked at again then: a new file may have come under the same name a moment before.

    Killed in between, its row misses its file, and the next sweep brings it back.
    """
    aside = files.root / "orphans"
    for path in paths:
        relative = path.relative_to(files.root).as_posix()
        target = aside / relative
        with translated(path), contextlib.suppress(FileNotFoundError):
            make_folders(target.parent, files.root)
            path.rename(target)
            with db.read() as conn:
                wanted = relative in named_paths(conn, [relative]) | noted_paths(conn, [relative])
            if wanted or not _older(target, before):
                target.rename(path)
                continue
            os.utime(target)  # its age counts from now on
            sync_folder(target.parent)
            yield target


def _brought_back(files: FileStore, rows: list[Stored]) -> Iterator[Stored]:
    """Those whose file cannot be found among the orphans either."""
    for row in rows:
        path, aside = files.path(row.path), files.root / "orphans" / row.path
        try:
            make_folders(path.parent, files.root)
            os.link(aside, path)
        except FileExistsError:
            continue
        except OSError:
            yield row
            continue
        aside.unlink(missing_ok=True)


def _still_named(db: Database, rows: list[Stored]) -> list[Stored]:
    """A row that was purged since it was read misses no file."""
    if not rows:
        return []
    with db.read() as conn:
        named = named_paths(conn, [row.path for row in rows])
    return [row for row in rows if row.path in named]


def _files(root: Path, bucket: str) -> Iterator[Path]:
    for kind in ("instances", "documents"):
        yield from _files_below(root / kind / bucket)


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def _older(path: Path, before: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime < before
    return False
