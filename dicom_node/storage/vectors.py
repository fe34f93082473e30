"""An index of image embeddings: a float16 matrix in one file, what each row is in SQLite beside it.

    index.json      which model made the vectors; another model's never get among them
    vectors.f16     row after row, little-endian float16
    index.sqlite    one row of metadata for each, no patient's name or identifier

Vectors reach the disk before the rows that name them commit, so a row that can be seen has its vector; what a killed run
left beyond the last committed row is cut off when the index is next opened for writing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint, func, insert, select

from dicom_node.errors import StorageBusy, StorageError
from dicom_node.storage.database import Database
from dicom_node.storage.files import write_whole
from dicom_node.storage.paths import translated

_FORM: Final = 1
_BYTES: Final = 2  # of a float16
_metadata = MetaData()
_pictures = Table(
    "pictures",
    _metadata,
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("frame_number", Integer, nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("series_instance_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("body_part", String(64), nullable=False),
    Column("view", String(64), nullable=False),
    Column("study_date", String(8), nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("sop_instance_uid", "frame_number"),
    Index("ix_pictures_filter", "modality", "study_date"),
)


@dataclass(frozen=True, slots=True)
class IndexedPicture:
    """What is known of one vector.

    ``study_date``: DICOM DA (YYYYMMDD) or empty. ``name``: the file it was embedded from.
    """

    sop_instance_uid: str
    frame_number: int
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    body_part: str
    view: str
    study_date: str
    name: str


@dataclass(frozen=True, slots=True)
class PictureFilter:
    """``modalities`` and ``body_parts``: any of them, all where empty. Dates as DICOM DA, inclusive, empty for open."""

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class IndexModel:
    """The model of an index: vectors of two models cannot be compared. ``width``: components of a vector."""

    name: str
    digest: str
    width: int


class VectorIndex:
    """One index folder."""

    def __init__(self, folder: Path, model: IndexModel, database: Database) -> None:
        self.folder, self.model, self._database = folder, model, database
        self._vectors = folder / "vectors.f16"

    @classmethod
    def open(cls, folder: Path) -> VectorIndex:
        """Open for searching. Raises StorageError where the folder holds no index, or a damaged one."""
        model = _read_model(folder)
        index = cls(folder, model, Database.open_plain(folder / "index.sqlite", _metadata))
        held = index._vectors.stat().st_size // (_BYTES * model.width) if index._vectors.is_file() else 0
        if held < len(index):
            raise StorageError(f"{folder}: vectors.f16 is shorter than its {len(index)} rows; embed the archive anew")
        return index

    @classmethod
    @contextmanager
    def held(cls, folder: Path, model: IndexModel) -> Iterator[VectorIndex]:
        """Make or open the index and write to it alone.

        Raises StorageError where it belongs to another model or is damaged, StorageBusy where another process writes to it.
        """
        with translated(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(lock, folder)
            _claim(folder, model)
            index = cls.open(folder)
            index._cut()
            yield index
        finally:
            os.close(lock)

    def __len__(self) -> int:
        with self._database.read() as conn:
            return int(conn.scalar(select(func.coalesce(func.max(_pictures.c.row) + 1, 0))) or 0)

    def holds(self, sop_instance_uid: str, frame_number: int) -> bool:
        """Whether this frame has its vector already."""
        wanted = (_pictures.c.sop_instance_uid == sop_instance_uid) & (_pictures.c.frame_number == frame_number)
        with self._database.read() as conn:
            return conn.scalar(select(_pictures.c.row).where(wanted)) is not None

    def add(self, pictures: Sequence[IndexedPicture], vectors: NDArray[np.float32]) -> None:
        """Append vectors, float32 (pictures, width), unit length; frames the index holds already must not be among them."""
        if vectors.shape != (len(pictures), self.model.width) or not np.isfinite(vectors).all():
            raise ValueError(f"{vectors.shape} vectors for {len(pictures)} pictures of width {self.model.width}")
        first = len(self)
        with translated(self._vectors), self._vectors.open("ab") as file:
            file.write(vectors.astype("<f2").tobytes())
            file.flush()
            os.fsync(file.fileno())
        with self._database.write() as conn:
            conn.execute(insert(_pictures), [{"row": first + i, **asdict(picture)} for i, picture in enumerate(pictures)])

    def matrix(self) -> NDArray[np.float16]:
        """All vectors, memory-mapped: float16 (rows, width)."""
        rows = len(self)
        if not rows:
            return np.empty((0, self.model.width), np.float16)
        with translated(self._vectors):
            return np.memmap(self._vectors, "<f2", "r", shape=(rows, self.model.width))

    def rows(self, wanted: PictureFilter) -> NDArray[np.int64] | None:
        """Ascending row numbers that pass the filter, or None where it lets all pass."""
        conditions = _conditions(wanted)
        if not conditions:
            return None
        with self._database.read() as conn:
            return np.fromiter(conn.scalars(select(_pictures.c.row).where(*conditions).order_by(_pictures.c.row)), np.int64)

    def picture(self, row: int) -> IndexedPicture:
        with self._database.read() as conn:
            found = conn.execute(select(_pictures).where(_pictures.c.row == row)).mappings().one()
        return IndexedPicture(**{name: found[name] for name in IndexedPicture.__slots__})

    def _cut(self) -> None:
        with translated(self._vectors):
            if self._vectors.is_file():
                os.truncate(self._vectors, len(self) * self.model.width * _BYTES)


def _conditions(wanted: PictureFilter) -> list[Any]:
    columns = _pictures.c
    return [
        *([columns.modality.in_(wanted.modalities)] if wanted.modalities else []),
        *([columns.body_part.in_(wanted.body_parts)] if wanted.body_parts else []),
        *([columns.study_date >= wanted.since] if wanted.since else []),
        *([columns.study_date <= wanted.until, columns.study_date != ""] if wanted.until else []),
    ]


def _lock(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageBusy(f"{folder}: another process is writing this index; wait for it") from error


def _claim(folder: Path, model: IndexModel) -> None:
    if not (folder / "index.json").exists():
        if any(path.name != ".lock" for path in folder.iterdir()):
            raise StorageError(f"{folder}: holds other files and no index; name a new or empty folder")
        write_whole(folder / "index.json", json.dumps({"form": _FORM, **asdict(model)}, indent=2).encode() + b"\n")
    held = _read_model(folder)
    if held.digest != model.digest or held.width != model.width:
        raise StorageError(
            f"{folder}: was made by {held.name} (digest {held.digest[:12]}), not by {model.name} ({model.digest[:12]}); "
            "vectors of two models cannot be compared: embed into a new folder"
        )


def _read_model(folder: Path) -> IndexModel:
    try:
        data = json.loads((folder / "index.json").read_text("utf-8"))
        if data.pop("form") != _FORM:
            raise StorageError(f"{folder}: index.json is of a newer version; embed the archive anew")
        return IndexModel(str(data["name"]), str(data["digest"]), int(data["width"]))
    except FileNotFoundError as error:
        raise StorageError(f"{folder}: no index here; make one with `wetread embed`") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{folder}: index.json is damaged; embed the archive anew") from error
