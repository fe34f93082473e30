"""Who holds a lease, a partial file or a row of ``nodes``: "place:pid:start", and whether that process still lives.

The place is the host's name with the boot and the process-id namespace it is seen from: two containers may have the same
name and the same process numbers. The start time tells a process from a later one that was given the same number.
"""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path
from typing import Final

_HOST_CHARS: Final = 24  # of the host's name in an owner, so that it fits its column with whatever suffix


def host_name() -> str:
    """This host's name, fit for a file name; the variable WETREAD_HOST_NAME gives another one."""
    told = os.environ.get("WETREAD_HOST_NAME") or socket.gethostname()
    name = "".join(char if char.isalnum() or char in "-." else "-" for char in told)
    return name[:64] or "localhost"


def current_owner(suffix: str = "") -> str:
    """``suffix`` tells workers of one process apart; it must not be needed to tell whether the process lives."""
    owner = f"{place()}:{os.getpid()}:{_start_of(os.getpid())}"
    return f"{owner}:{suffix}" if suffix else owner


def owner_alive(owner: str) -> bool:
    """False only when the owner was a process of this place and is gone; of other places nothing can be known."""
    where, pid, start = [*owner.split(":"), "", "", ""][:3]
    if where != place() or not pid.isdigit():
        return True
    return _start_of(int(pid)) == start


def owner_alive_here(owner: str) -> bool:
    """As ``owner_alive``, where every owner is of this machine (an SQLite database): none outlives a boot."""
    host, _, rest = owner.split(":")[0].partition("~")
    here = host == host_name()[:_HOST_CHARS] and "~" in rest
    return owner_alive(owner) and (not here or rest.partition("~")[2] == boot())


@cache
def place() -> str:
    """Where process numbers mean what they mean here: "host~namespace~boot"; fit for a file name."""
    namespace = _digest(_read_link("/proc/self/ns/pid"))
    return f"{host_name()[:_HOST_CHARS]}~{namespace}~{boot()}"


@cache
def boot() -> str:
    """Tells one start of this machine from another; empty where the system does not tell."""
    try:
        return _digest(Path("/proc/sys/kernel/random/boot_id").read_text())
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _read_link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


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
