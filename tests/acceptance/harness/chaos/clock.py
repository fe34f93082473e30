"""A machine's clock that can be set: its processes see it through a few lines of C (clock.c), which Python, SQLite, libpq and
OpenSSL all go by. Steady clocks and what is being waited for go on, and so do the times of files, which the kernel gives.

Not libfaketime (0.9.10 was tried): with it Python's time.sleep, a clock_nanosleep to an absolute time, fails with EINVAL, and
its processes share a semaphore, which one that is killed may leave locked for all.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("clock.c")


@cache
def compiler() -> str:
    """The C compiler; "" where there is none."""
    return shutil.which("cc") or shutil.which("gcc") or ""


class Clock:
    """The clock of one machine; right until it is set. Where there is no compiler it stays right."""

    def __init__(self, folder: Path) -> None:
        self._ahead, self._library = folder / "clock", folder / "clock.so"
        self.set(0)
        if compiler():
            subprocess.run([compiler(), "-O2", "-shared", "-fPIC", "-o", self._library, SOURCE], check=True)

    @property
    def environment(self) -> dict[str, str]:
        """For processes that are to go by it."""
        return {"LD_PRELOAD": str(self._library), "WETREAD_TEST_CLOCK": str(self._ahead)} if compiler() else {}

    def set(self, ahead_s: int) -> None:
        """So many seconds ahead of the time, at once and for all processes."""
        with self._ahead.open("r+b" if self._ahead.exists() else "wb") as file:
            file.write(struct.pack("q", ahead_s))
