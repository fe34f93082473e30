"""The keeper: one process of all the machines keeps house for them, a chore at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from dicom_node.errors import StorageError, describe
from dicom_node.storage.chores import drop_chore, hold_chore
from dicom_node.storage.database import Database

TICK_S: Final = 5.0
_HELD_S: Final = 120.0  # a machine that died over its chores is stood in for after so long
_log = structlog.get_logger()


@dataclass(slots=True)
class Chore:
    """``do`` is called every ``every_s`` seconds, with a flag that is set when the process must end."""

    name: str
    every_s: float
    do: Callable[[threading.Event], None]
    next_at: float = field(default=0.0)


class Keeper:
    """Does the chores while it holds the post; on other machines keepers wait for it."""

    def __init__(self, db: Database, chores: Sequence[Chore], owner: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._db, self._chores, self._owner, self._clock = db, tuple(chores), owner, clock

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set. A chore that fails is told of and tried again in its turn."""
        while not stop.wait(TICK_S):
            self.step(stop)
        try:
            drop_chore(self._db, "keeper", self._owner)
        except StorageError as error:
            _log.warning("the keeper's post could not be given back", error=str(error))

    def step(self, stop: threading.Event) -> None:
        """Every chore that is due, if this process holds the post."""
        for chore in self._chores:
            if stop.is_set() or self._clock() < chore.next_at:
                continue
            chore.next_at = self._clock() + chore.every_s
            try:
                if hold_chore(self._db, "keeper", self._owner, _HELD_S, self._db.now()):
                    chore.do(stop)
            except StorageError as error:
                _log.warning("a chore waits for storage", kind=chore.name, error=str(error))
            except Exception as error:  # noqa: BLE001  whatever one chore does, the others must be done
                _log.error("a chore failed; it will be tried again", kind=chore.name, error=describe(error))
