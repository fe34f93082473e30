"""What the names that a data set gives its films mean for the findings of a catalogue.

A YAML file::

    names:
      Pneumothorax: pneumothorax        # the finding is present
      Mass: [nodule]                    # several keys may be meant
      No Finding: none                  # every finding that this file names is absent
      Rotated film: unknown             # says nothing
    unmentioned: unknown                # a finding that this file names and a film's names do not: absent or unknown;
                                        # or by collection: {ChestX-ray14: absent}, unknown for the others
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from inference.errors import LabelsError

_NONE: Final = "none"
_UNKNOWN: Final = "unknown"
_ABSENT: Final = "absent"


@dataclass(frozen=True, slots=True)
class Names:
    """``meanings``: name to the keys it says are present; empty for names that say nothing or "none", which are in ``clear``.

    ``unmentioned``: by collection, and under "" for all others.
    """

    path: Path
    meanings: Mapping[str, tuple[str, ...]]
    clear: frozenset[str]
    unmentioned: Mapping[str, Literal["absent", "unknown"]]

    @property
    def keys(self) -> frozenset[str]:
        """The findings that some name says are present: the others stay unknown whatever a film is called."""
        return frozenset(key for keys in self.meanings.values() for key in keys)

    def truth(self, given: Sequence[str], collection: str) -> Mapping[str, int]:
        """1 or 0 for each finding of which the names say something. Raises ValueError where they contradict each other."""
        present = {key for name in given for key in self.meanings[name]}
        free = [name for name in given if name in self.clear]
        if free and present:
            raise ValueError(f"{free[0]!r} stands beside the name of a finding")
        rest = self.unmentioned.get(collection, self.unmentioned[""])
        speaks = bool(given) and (bool(free) or rest == _ABSENT)
        return {key: int(key in present) for key in self.keys if key in present or speaks}


def read_names(path: Path, keys: Sequence[str]) -> Names:
    """Read the file for a catalogue's ``keys``. Raises LabelsError naming the entry and what is allowed."""
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LabelsError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict) or not isinstance(data.get("names"), dict) or set(data) - {"names", "unmentioned"}:
        raise LabelsError(f"{path}: must hold `names:` with a line for each name, and may hold `unmentioned:`; nothing else")
    meanings = {str(name): _keys(path, str(name), value, keys) for name, value in data["names"].items()}
    clear = frozenset(str(name) for name, value in data["names"].items() if value == _NONE)
    return Names(path, meanings, clear, _unmentioned(path, data.get("unmentioned", _UNKNOWN)))


def _keys(path: Path, name: str, value: Any, keys: Sequence[str]) -> tuple[str, ...]:
    if value in (_NONE, _UNKNOWN):
        return ()
    meant = tuple(value) if isinstance(value, list) else (value,)
    for key in meant:
        if key not in keys:
            allowed = ", ".join((*keys, _NONE, _UNKNOWN))
            raise LabelsError(f"{path}: name {name!r}: {key!r} is no finding of the catalogue; allowed: {allowed}")
    return meant


def _unmentioned(path: Path, value: Any) -> dict[str, Literal["absent", "unknown"]]:
    by_collection = value if isinstance(value, dict) else {"": value}
    if any(word not in (_ABSENT, _UNKNOWN) for word in by_collection.values()):
        raise LabelsError(f"{path}: unmentioned: allowed are absent and unknown, for all films or by collection")
    return {"": _UNKNOWN, **{str(name): word for name, word in by_collection.items()}}
