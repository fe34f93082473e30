"""Which clock decides on leases, retries, quiet and retention: one that all processes of a database share and that never leaps.

Where several machines share a database it is the database's, so that none whose clock is wrong takes over work that is being
done, or holds on to work that is not. On one machine it is the machine's own, without its leaps: an NTP client, an operator or
a virtual machine that wakes may set that forward or back by hours.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from dicom_node.errors import StorageError
from dicom_node.storage.owner import boot

MEASURE_S: Final = 30.0
FOLLOW_S: Final = 2.0  # between two looks at the machine's clock: processes differ by at most a quarter of it
_SLOW_S: Final = 1.0  # an answer that took longer says too little; only the very first is taken all the same
_SLEW: Final = 0.25  # of the time that passes: a lease is renewed after a third of it, and so never runs out early
_STOPPED_S: Final = 60.0  # nobody has looked for so long: nothing is under way that a leap could harm
_CORRECTION_S: Final = 6 * 3600.0  # more than this is no leap to be ridden out, once it has lasted
_LASTING_S: Final = 600.0
_LINE_BYTES: Final = 100


def _steady() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class SharedClock:
    """A time that others tell, carried on by this machine's steady clock between two questions. Safe to share between threads.

    ``ask``: seconds since 1970 UTC; may raise StorageError, and then the last answer is carried on. ``every_s``: how often it
    is asked at most.
    """

    def __init__(self, ask: Callable[[], float], every_s: float = MEASURE_S) -> None:
        self._ask, self._every_s = ask, every_s
        self._lock = threading.Lock()
        self._offset = 0.0  # seconds since 1970 at which the steady clock stood at nought
        self._ask_at = 0.0

    def now(self) -> float:
        """Seconds since 1970 UTC. One thread asks for all. Raises StorageError where it was never told the time."""
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
            if self._ask_at == 0.0:
                raise
            self._ask_at = _steady() + 1.0
            return
        after = _steady()
        if after - before < _SLOW_S or self._ask_at == 0.0:
            self._offset = told - (before + after) / 2
        self._ask_at = after + self._every_s


class _Kept(NamedTuple):
    """``offset``: seconds since 1970 at which the steady clock stood at nought. ``at``: when it was told, on that clock.

    ``near``: when the machine's clock was last no further away than a correction.
    """

    offset: float
    at: float
    near: float


class MachineTime:
    """This machine's time without its leaps, for all processes of a database here: called, it tells seconds since 1970 UTC.

    It follows the machine's clock by at most ``_SLEW`` of the time that passes, so that three hours take twelve. After a boot,
    and where no process of the node has looked for a minute, it takes the clock as it stands; so it does when that is more than
    six hours away for ten minutes: a machine that began in 1970 must not date its reports so. ``file`` holds how far it is.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last: _Kept | None = None  # where the file cannot be written, this process goes on alone

    def __call__(self) -> float:
        at = _steady()
        self._last = self._followed(time.time() - at, at)
        self._keep(self._last)
        return self._last.offset + _steady()

    def _followed(self, wanted: float, at: float) -> _Kept:
        held = self._held() or self._last
        if held is None or not held.at <= at < held.at + _STOPPED_S:
            return _Kept(wanted, at, at)
        apart, most = wanted - held.offset, _SLEW * (at - held.at)
        near = at if abs(apart) <= _CORRECTION_S else held.near
        if at - near > _LASTING_S:
            return _Kept(wanted, at, at)
        return _Kept(held.offset + min(max(apart, -most), most), at, near)

    def _held(self) -> _Kept | None:
        """What the processes of this boot last agreed on. Two may write at once: then both write nearly the same."""
        with suppress(OSError, ValueError, IndexError):
            check, *line = self._file.read_text("ascii").split()
            if boot() and line[0] == boot() and int(check, 16) == _check(line):
                return _Kept(float(line[1]), float(line[2]), float(line[3]))
        return None

    def _keep(self, kept: _Kept) -> None:
        """In place, so that a full disk has room for it; a power cut in the middle leaves what the next boot does not read."""
        line = [boot(), *(f"{value:.6f}" for value in kept)]
        text = " ".join([f"{_check(line):08x}", *line]).ljust(_LINE_BYTES - 1) + "\n"
        with suppress(OSError):
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, text.encode("ascii"), 0)
            finally:
                os.close(descriptor)


def _check(line: list[str]) -> int:
    return zlib.crc32(" ".join(line).encode("ascii"))
