"""Who holds a lease or a partial file: "host:pid:start", and whether that process still lives.

The start time tells a process from a later one that was given the same number.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def host_name() -> str:
    """This host's name, fit for a file name."""
    name = "".join(char if char.isalnum() or char in "-." else "-" for char in socket.gethostname())
    return name[:64] or "localhost"


def current_owner(suffix: str = "") -> str:
    """``suffix`` tells workers of one process apart; it must not be needed to tell whether the process lives."""
    owner = f"{host_name()}:{os.getpid()}:{_start_of(os.getpid())}"
    return f"{owner}:{suffix}" if suffix else owner


def owner_alive(owner: str) -> bool:
    """False only when the owner was a process of this host and is gone; of other hosts nothing can be known."""
    host, pid, start = [*owner.split(":"), "", "", ""][:3]
    if host != host_name() or not pid.isdigit():
        return True
    return _start_of(int(pid)) == start


def _start_of(pid: int) -> str:
    """Clock ticks from boot to the process's start (proc(5), field 22); "" when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "" if Path("/proc/self/stat").exists() else _start_without_proc(pid)
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _start_without_proc(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "0"
