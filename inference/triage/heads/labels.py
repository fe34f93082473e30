"""Labelled films as a table a site can make: CSV, one row for each image.

Columns: ``file`` (path under the folder of images) or ``sop_instance_uid``; ``patient`` (any name or number; it keeps a
patient's films together); and either one column for each finding, headed by its key in the catalogue and holding 1 (present),
0 (absent) or nothing (unknown), or a column ``labels`` of names with ``|`` between them, with a file that says what they mean
(``names``). ``collection`` is where the film comes from. Other columns are ignored.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference.errors import LabelsError
from inference.triage.heads.names import Names

FILE: Final = "file"
UID: Final = "sop_instance_uid"
PATIENT: Final = "patient"
LABELS: Final = "labels"
COLLECTION: Final = "collection"
_TRUTHS: Final[Mapping[str, int]] = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "": -1}
_NEAR: Final = 0.85  # likeness at which a column is taken for a finding's key with a slip in it


@dataclass(frozen=True, slots=True)
class Row:
    """One image: where the row stands, which image, whose, and what is known. ``truth``: 1, 0 or -1 for each key."""

    line: int
    image: str
    patient: str
    collection: str
    truth: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """A table of labels. ``by_uid``: rows name SOP Instance UIDs, not files. ``unused``: columns that were not looked at."""

    path: Path
    keys: tuple[str, ...]
    by_uid: bool
    rows: tuple[Row, ...]
    unused: tuple[str, ...]

    def where(self, row: Row) -> str:
        return f"{self.path} line {row.line}"


def read_labels(path: Path, keys: Sequence[str], *, names: Names | None = None, patient: str = PATIENT) -> Labels:
    """Read a table for the findings ``keys``.

    ``names``: what the names in the column ``labels`` mean, where it is used. ``patient``: the column that tells patients
    apart. Raises LabelsError naming line and column.
    """
    header, lines = _read(path)
    _check_header(path, header, keys, names, patient)
    by_uid = FILE not in header
    rows = [_row(path, line, cells, keys, names, (UID if by_uid else FILE, patient)) for line, cells in lines]
    _check_rows(path, rows)
    used = {FILE, UID, patient, COLLECTION, *keys, *([LABELS] if names else [])}
    return Labels(path, tuple(keys), by_uid, tuple(rows), tuple(name for name in header if name not in used))


def _read(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelsError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error
    for line, cells in lines:
        if len(cells) != len(header):
            raise LabelsError(f"{path} line {line}: {len(cells)} cells for {len(header)} columns")
    return header, [(line, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}) for line, cells in lines]


def _check_header(path: Path, header: Sequence[str], keys: Sequence[str], names: Names | None, patient: str) -> None:
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise LabelsError(f"{path} line 1: the column {twice[0]!r} is there twice")
    if FILE not in header and UID not in header:
        raise LabelsError(f"{path} line 1: no column {FILE!r} or {UID!r}; one says which image a row is about")
    if patient not in header:
        raise LabelsError(
            f"{path} line 1: no column {patient!r}; films of one patient must stay together. Name the column "
            "by --patient-column"
        )
    if names is not None and LABELS not in header:
        raise LabelsError(f"{path} line 1: no column {LABELS!r}, whose names --names explains")
    for name in header:
        near = difflib.get_close_matches(name.lower().replace(" ", "_"), keys, n=1, cutoff=_NEAR) if name not in keys else []
        if near:
            raise LabelsError(f"{path} line 1: column {name!r} is no finding of the catalogue. Did you mean {near[0]!r}?")
    if names is None and not set(keys) & set(header):
        hint = f" To read the column {LABELS!r}, give --names." if LABELS in header else ""
        raise LabelsError(f"{path} line 1: no column is a finding of the catalogue; there are: {', '.join(keys)}.{hint}")


def _row(
    path: Path, line: int, cells: Mapping[str, str], keys: Sequence[str], names: Names | None, columns: tuple[str, str]
) -> Row:
    image, patient = (cells[column] for column in columns)
    for column, value in zip(columns, (image, patient), strict=True):
        if not value:
            raise LabelsError(f"{path} line {line}, column {column!r}: is empty")
    collection = cells.get(COLLECTION, "")
    told = _told(path, line, cells[LABELS], names, collection) if names else {}
    truth = [_truth(path, line, key, cells[key]) if key in cells else -1 for key in keys]
    both = tuple(told.get(key, -1) if own < 0 else own for key, own in zip(keys, truth, strict=True))
    return Row(line, image, patient, collection, both)


def _truth(path: Path, line: int, key: str, text: str) -> int:
    if text not in _TRUTHS:
        raise LabelsError(
            f"{path} line {line}, column {key!r}: {text[:12]!r} is neither 1 (present), 0 (absent) nor empty (unknown)"
        )
    return _TRUTHS[text]


def _told(path: Path, line: int, text: str, names: Names, collection: str) -> Mapping[str, int]:
    given = [name.strip() for name in text.split("|") if name.strip()]
    for name in given:
        if name not in names.meanings:
            raise LabelsError(f"{path} line {line}, column {LABELS!r}: {names.path} does not say what {name[:60]!r} means")
    try:
        return names.truth(given, collection)
    except ValueError as error:
        raise LabelsError(f"{path} line {line}, column {LABELS!r}: {error}") from error


def _check_rows(path: Path, rows: Sequence[Row]) -> None:
    if not rows:
        raise LabelsError(f"{path}: holds no row below its header")
    first: dict[str, int] = {}
    for row in rows:
        if row.image in first:
            raise LabelsError(f"{path} line {row.line}: the same image as line {first[row.image]}; an image has one row")
        first[row.image] = row.line
