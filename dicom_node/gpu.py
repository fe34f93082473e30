"""What the GPUs are doing, as nvidia-smi tells it, which every driver brings along."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dicom_node import measures

_QUERY: Final = "index,memory.used,memory.total,utilization.gpu"
_LONGEST_S: Final = 4.0  # a driver that hangs must not stop the process's heartbeat for long


@dataclass(frozen=True, slots=True)
class Gpu:
    """``used`` and ``total`` in bytes, of all programs; ``busy``: share of the last second, 0 to 1; None: not told."""

    index: str
    used: int
    total: int
    busy: float | None


def set_gauges() -> None:
    """Nothing where there is no GPU."""
    for gpu in look():
        measures.gauge(measures.GPU_MEMORY_USED, gpu.used, gpu=gpu.index)
        measures.gauge(measures.GPU_MEMORY_TOTAL, gpu.total, gpu=gpu.index)
        if gpu.busy is not None:
            measures.gauge(measures.GPU_BUSY, gpu.busy, gpu=gpu.index)


def look() -> tuple[Gpu, ...]:
    """Every GPU that this machine has; none where that cannot be told."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(parsed(told.stdout))


def parsed(text: str) -> Iterator[Gpu]:
    """Of lines such as "0, 1024, 143771, 37"; sizes in MiB. What a card does not tell ("[N/A]") is left out."""
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4 and parts[1].isdigit() and parts[2].isdigit():
            busy = int(parts[3]) / 100 if parts[3].isdigit() else None
            yield Gpu(parts[0], int(parts[1]) << 20, int(parts[2]) << 20, busy)
