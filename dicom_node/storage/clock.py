"""Which clock decides on leases: the database's, where several machines share one, so that none whose clock is wrong takes
over work that is being done, or holds on to work that is not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from dicom_node.errors import StorageError

_MEASURE_S: Final = 30.0
_SLOW_S: Final = 1.0  # an answer that took longer says too little; only the very first is taken all the same


def _steady() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class SharedClock:
    """The database's time, carried on by this machine's steady clock between two questions. Safe to share between threads.

    ``ask``: the database's seconds since 1970 UTC; may raise StorageError, and then the last answer is carried on.
    """

    def __init__(self, ask: Callable[[], float]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._offset = time.time() - _steady()  # seconds since 1970 at which the steady clock stood at nought
        self._ask_at = 0.0

    def now(self) -> float:
        """Seconds since 1970 UTC. Asks the database at most every half minute, one thread for all."""
        if _steady() >= self._ask_at and self._lock.acquire(blocking=self._ask_at == 0.0):
            try:
                if _steady() >= self._ask_at:
                    self._measure()
            finally:
                self._lock.release()
        return self._offset + _steady()

    def _measure(self) -> None:
        before = _steady()
        try:
            told = self._ask()
        except StorageError:
            self._ask_at = _steady() + 1.0
            return
        after = _steady()
        if after - before < _SLOW_S or self._ask_at == 0.0:
            self._offset = told - (before + after) / 2
        self._ask_at = after + _MEASURE_S
