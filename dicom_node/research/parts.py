"""Finished studies: one file each, committed by a rename, from which tables are made and a stopped run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dicom_node.errors import StorageError
from dicom_node.research.files import RunFolder, write_whole
from dicom_node.research.search import SourceFile
from inference.reading import Reading


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file as it was when its study was read. ``left_out``: why its image took no part although it could be opened."""

    path: str
    size: int
    mtime_ns: int
    sha256: str
    sop_instance_uid: str
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A study that is finished. ``revision`` counts from 1 how often its files were found changed and it was read anew."""

    study_instance_uid: str
    revision: int
    files: tuple[ReadFile, ...]
    reading: Reading


_ADAPTER = TypeAdapter(Part)


def part_path(folder: RunFolder, study_uid: str) -> Path:
    """A UID never becomes part of a path unhashed; 128 bits tell any two apart."""
    return folder.parts / f"{hashlib.sha256(study_uid.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"


def commit_part(folder: RunFolder, part: Part) -> None:
    """Durable when this returns. Raises StorageError, StorageFull."""
    write_whole(part_path(folder, part.study_instance_uid), _ADAPTER.dump_json(part).decode())


def load_part(folder: RunFolder, study_uid: str) -> Part | None:
    """The finished study, or None. Raises StorageError where its file is damaged."""
    path = part_path(folder, study_uid)
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StorageError(f"{path}: a finished study cannot be read back; delete this file to read the study again") from error


def unchanged(part: Part, files: Sequence[SourceFile]) -> bool:
    """Whether the study still consists of the files it was read from.

    Size and modification time are enough; where only the time differs (a copied archive), the bytes decide.
    """
    known = {file.path: file for file in part.files}
    return len(known) == len(files) and all(_same(known.get(file.path), file) for file in files)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same(known: ReadFile | None, file: SourceFile) -> bool:
    if known is None or known.size != file.size:
        return False
    return known.mtime_ns == file.mtime_ns or sha256_of(file.place) == known.sha256
