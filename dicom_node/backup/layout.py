"""Where things lie in a backup, and its list of files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import SettingsError, StorageError

FORM: Final = 1
FILES: Final = "files"
BACKUPS: Final = "backups"
TABLES: Final = "tables"
_FACTS: Final = "backup.json"
_LIST: Final = "files.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a backup. ``path`` is relative to the data folder; ``size`` in bytes; ``sha256`` of all its bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a backup is of. ``made_at``: seconds since 1970 UTC, the moment of the rows."""

    form: int
    made_at: float
    version: str
    revision: str
    rows: dict[str, int]
    files: int
    bytes: int


def backups_in(folder: Path) -> list[Path]:
    """The complete backups of a folder, the newest last."""
    return sorted(path for path in (folder / BACKUPS).glob("[!.]*") if (path / _FACTS).is_file())


def unfinished(folder: Path, name: str) -> Path:
    """Where a backup lies while it is made or deleted: none of those that can be restored."""
    return folder / BACKUPS / f".{name}.part"


def chosen(folder: Path, name: str | None) -> Path:
    """The backup of that name, else the newest. Raises SettingsError where there is none."""
    there = backups_in(folder)
    if not there:
        raise SettingsError(f"{folder} holds no backup; name the folder that was given to `wetread backup --out`")
    found = [path for path in there if name is None or path.name == name]
    if not found:
        raise SettingsError(f"there is no backup {name!r} in {folder}; there are: {', '.join(path.name for path in there)}")
    return found[-1]


def write_facts(backup: Path, facts: Facts) -> None:
    (backup / _FACTS).write_text(json.dumps(asdict(facts), indent=1) + "\n", "utf-8")


def read_facts(backup: Path) -> Facts:
    """Raises StorageError for what is no backup of ours, or of a later form."""
    try:
        facts = Facts(**json.loads((backup / _FACTS).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"{backup / _FACTS} cannot be understood; use another backup") from error
    if facts.form != FORM:
        raise StorageError(f"{backup} has the form {facts.form}, which this version does not know; install the newer one")
    return facts


def write_entries(backup: Path, entries: Iterator[Entry]) -> Iterator[Entry]:
    """Passes the entries on as they are written."""
    with gzip.open(backup / _LIST, "wt", encoding="utf-8", compresslevel=3) as out:
        for entry in entries:
            out.write(json.dumps(asdict(entry)) + "\n")
            yield entry


def read_entries(backup: Path) -> Iterator[Entry]:
    """Raises StorageError where the list is damaged."""
    try:
        with gzip.open(backup / _LIST, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield _checked(Entry(**json.loads(line)))
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise StorageError(f"{backup / _LIST} is damaged; use another backup") from error


def _checked(entry: Entry) -> Entry:
    if Path(entry.path).is_absolute() or ".." in Path(entry.path).parts:
        raise ValueError("a path that leads elsewhere")
    return entry
