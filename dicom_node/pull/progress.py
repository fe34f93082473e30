"""The list of a pull: every study with its state, kept after each, so that the same command goes on where it ended."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from io import StringIO
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.pull.criteria import Wanted


class State(StrEnum):
    """Where a study of the list stands."""

    WAITING = "waiting"
    DONE = "done"  # fetched, all of it
    HERE = "here"  # all of it was here before
    PARTIAL = "partial"  # some of it did not come; the same command tries again
    FAILED = "failed"  # nothing came; the same command tries again


FINISHED = frozenset({State.DONE, State.HERE})


@dataclass(frozen=True, slots=True)
class Entry:
    """One study. ``stored``: instances here after the last try. ``reason``: a plain sentence without patient data."""

    study_uid: str
    expected: int
    state: State = State.WAITING
    stored: int = 0
    tries: int = 0
    reason: str = ""


_COLUMNS = [one.name for one in fields(Entry)]


class PullList:
    """The entries of ``file`` (CSV). Each change is a line of its own at its end, and the last line of a study counts.

    Raises SettingsError where it is no such list.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._entries: dict[str, Entry] = {one.study_uid: one for one in _read(file)}

    def take_up(self, wanted: Iterable[Wanted]) -> None:
        """Add studies that are new; one that has grown at the archive since waits again."""
        changed: list[Entry] = []
        for one in wanted:
            known = self._entries.get(one.study_uid)
            if known is None:
                changed.append(Entry(one.study_uid, one.expected))
            elif one.expected > known.expected:
                changed.append(replace(known, expected=one.expected, state=State.WAITING))
        self._append(changed)

    def note(self, entry: Entry) -> None:
        self._append([entry])

    def unfinished(self) -> tuple[Entry, ...]:
        return tuple(one for one in self._entries.values() if one.state not in FINISHED)

    def counts(self) -> Counter[State]:
        return Counter(one.state for one in self._entries.values())

    def _append(self, entries: Sequence[Entry]) -> None:
        self._entries |= {one.study_uid: one for one in entries}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8", newline="") as out:
            if out.tell() != (whole := len(_whole(self.file.read_bytes()))):
                out.truncate(whole)
                out.seek(whole)
            writer = csv.DictWriter(out, _COLUMNS)
            if out.tell() == 0:
                writer.writeheader()
            writer.writerows(asdict(one) for one in entries)
            out.flush()
            os.fsync(out.fileno())


def _read(file: Path) -> list[Entry]:
    if not file.exists():
        return []
    try:
        text = _whole(file.read_bytes()).decode("utf-8")
        return [_entry(row) for row in csv.DictReader(StringIO(text, newline=""), strict=True)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise SettingsError(f"{file}: is not the list of a pull ({type(error).__name__}); name another with --list") from error


def _whole(content: bytes) -> bytes:
    """Without the line in whose middle the power failed."""
    return content[: content.rfind(b"\n") + 1]


def _entry(row: dict[str, str]) -> Entry:
    numbers = (int(row["stored"]), int(row["tries"]))
    return Entry(row["study_uid"], int(row["expected"]), State(row["state"]), *numbers, row["reason"])
