"""One line of what `wetread check` answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

PEER_LIMIT_S: Final = 10.0  # the longest wait for a peer, whatever its own timeout


class State(Enum):
    """How an item stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the answer. ``text``: what was found, and for anything but OK what to do."""

    name: str
    state: State
    text: str


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
