"""The node's processes: children that are kept running, and ends that are clean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

PARTS: Final = ("work", "deliver")  # the child processes that `serve` always has
TICK_S: Final = 0.25
LONGEST_WAIT_S: Final = 60.0
_log = structlog.get_logger()


def stop_on_signal(parent: int = 0) -> threading.Event:
    """An event that SIGTERM, SIGINT, or the end of process ``parent`` sets."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if parent:
        threading.Thread(target=_leave_with, args=(parent,), name="parent-watch", daemon=True).start()
    return stop


def _leave_with(parent: int) -> None:
    """End this process at once when its parent is gone: an orphan must not go on working beside the restarted node."""
    while os.getppid() == parent:
        time.sleep(TICK_S)
    os._exit(1)


@contextmanager
def children(file: Path, stop: threading.Event, parts: Sequence[str] = PARTS) -> Iterator[None]:
    """Keep the child processes running while the body runs; then end them."""
    closing = threading.Event()
    keepers = [threading.Thread(target=_keep, args=(part, file, closing), name=f"keep-{part}") for part in parts]
    for keeper in keepers:
        keeper.start()
    try:
        yield
    finally:
        stop.set()
        closing.set()
        for keeper in keepers:
            keeper.join()


def _keep(part: str, file: Path, closing: threading.Event) -> None:
    """Start the child, and again when it dies: after 1, 2, 4 … 60 seconds, from 1 again once it has run a minute."""
    wait = 1.0
    while not closing.is_set():
        started = time.monotonic()
        status = _run(part, file, closing)
        if closing.is_set():
            return
        wait = 1.0 if time.monotonic() - started > LONGEST_WAIT_S else wait
        _log.error("a process of the node ended; it will be started again", command=part, status=status, seconds=wait)
        closing.wait(wait)
        wait = min(2 * wait, LONGEST_WAIT_S)


def _run(part: str, file: Path, closing: threading.Event) -> int | None:
    """One life of a child; its exit status, None where it could not even be started (no memory, no process number)."""
    try:
        child = subprocess.Popen(_command(part, file))
    except OSError as error:
        _log.error("a process of the node cannot be started", command=part, error=str(error.strerror))
        return None
    while child.poll() is None and not closing.wait(TICK_S):
        pass
    if closing.is_set():
        _end(child)
    return child.returncode


def _command(part: str, file: Path) -> list[str]:
    return [sys.executable, "-m", "dicom_node.cli", part, "--config", str(file), "--parent", str(os.getpid())]


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
