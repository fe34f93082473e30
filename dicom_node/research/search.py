"""Which studies a folder holds: found by content, never by a file's name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import PixelError, SettingsError, StorageError
from dicom_node.pixels import read_instance


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A DICOM file of the source.

    ``path`` is relative to the source, with ``/``, and bytes that are not UTF-8 written as escapes; ``place`` is where to open
    it. ``size`` in bytes, ``mtime_ns`` since 1970.
    """

    path: str
    place: Path
    size: int
    mtime_ns: int
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that belongs to no study, and why, in a plain sentence part without patient data."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Archive:
    """What was found: study UID to its files, both in sorted order, and the files that belong to no study."""

    studies: dict[str, tuple[SourceFile, ...]]
    rejected: tuple[Rejected, ...]

    @property
    def file_count(self) -> int:
        return sum(map(len, self.studies.values())) + len(self.rejected)


def search(source: Path, leave_out: Path, seen: Callable[[int], None] = lambda _count: None) -> Archive:
    """Search ``source`` whole, except the folder ``leave_out`` (both resolved). ``seen`` is told the number of files so far.

    Links to folders are not followed: a folder is read once and a loop cannot hold the search.
    Raises SettingsError where a folder of the source cannot be listed: its studies would be lost without a word.
    """
    studies: dict[str, list[SourceFile]] = {}
    rejected: list[Rejected] = []
    for count, path in enumerate(_files(source, leave_out), start=1):
        relative = path.relative_to(source).as_posix().encode("utf-8", "backslashreplace").decode()
        try:
            uid, file = _look(path, relative)
        except PixelError as error:
            rejected.append(Rejected(relative, error.reason))
        except (OSError, StorageError) as error:
            rejected.append(Rejected(relative, f"it cannot be opened ({_why(error)})"))
        else:
            studies.setdefault(uid, []).append(file)
        seen(count)
    return Archive({uid: tuple(sorted(studies[uid], key=_by_path)) for uid in sorted(studies)}, tuple(rejected))


def _look(path: Path, relative: str) -> tuple[str, SourceFile]:
    if path.is_dir():
        raise PixelError("it is a link to a folder, which is not followed")
    if not path.is_file():
        raise PixelError("it is not a regular file (a broken link, a device or a socket)")
    state = path.stat()
    if state.st_size == 0:
        raise PixelError("it is empty")
    instance = read_instance(path)
    study = str(instance.header.get("StudyInstanceUID", "") or "").strip()
    if not study:
        what = "a DICOMDIR" if "DirectoryRecordSequence" in instance.header else "a DICOM file"
        raise PixelError(f"it is {what} without Study Instance UID (0020,000D)")
    return study, SourceFile(relative, path, state.st_size, state.st_mtime_ns, instance.sop_instance_uid.strip())


def _files(source: Path, leave_out: Path) -> Iterator[Path]:
    """Every entry below ``source`` that is not a folder, in a fixed order."""

    def refuse(error: OSError) -> None:
        raise SettingsError(f"{error.filename}: this folder of the source cannot be listed ({error.strerror})") from error

    for folder, folders, names in os.walk(source, onerror=refuse):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links and here / name != leave_out)
        yield from (here / name for name in sorted([*names, *links]))


def _by_path(file: SourceFile) -> str:
    return file.path


def _why(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return (cause.strerror if isinstance(cause, OSError) else None) or type(error).__name__
