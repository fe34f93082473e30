"""What one decoder process may use."""

from __future__ import annotations

import os
from dataclasses import dataclass

_MOST_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What one decoder process may use for one frame, and how many processes there are.

    ``processes``: 0 takes half of the processor's cores, 1 to 4. ``memory_mb``: MiB of address space above what it starts with.
    ``seconds``: of computing time; the process is also ended where ``patience`` times as long has passed on the clock.
    """

    processes: int = 0
    memory_mb: int = 2048
    seconds: float = 30.0
    patience: float = 4.0

    @property
    def count(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.processes or max(1, min(_MOST_PROCESSES, cores // 2))
