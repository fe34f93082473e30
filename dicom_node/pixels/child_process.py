"""The node's end of one decoder process."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from dicom_node.pixels.limits import Limits
from dicom_node.pixels.task import LENGTH, MOST_ANSWER_BYTES, Answer, Question

_START_S: Final = 120.0
_GOODBYE_S: Final = 2.0
_CRASHES: Final = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
# The C library would give a frame's memory back to the system each time, and pay 10 to 40 ms to have it cleared for the next.
# So pieces up to its own limit of 32 MiB come from a heap that keeps 64 MiB until the process ends, as it does when not asked.
_KEEPING_MEMORY: Final = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}


class Ended(Exception):  # noqa: N818
    """The process ended without an answer, with ``status`` as of subprocess.

    ``reason``: why the frame is at fault, empty where it need not be.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class ChildProcess:
    """One decoder process. Not thread-safe: it belongs to whoever has taken it. Raises OSError where it cannot be started."""

    def __init__(self, limits: Limits, program: Sequence[str]) -> None:
        self._wall_s = limits.seconds * limits.patience
        self._too_long = f"its decoder took longer than the {limits.seconds:g} s of computing time allowed"
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [str(theirs.fileno()), str(limits.memory_mb << 20), str(limits.seconds)]
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *program, *arguments],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_environment(),
                )
            except OSError:
                ours.close()
                raise
        self._line = ours
        self._started = False
        self.pid = self._process.pid

    def ask(self, question: Question, shared: int | None) -> Answer:
        """``shared``: the descriptor of the memory for the pixels. Raises Ended; the process is gone then."""
        content = pickle.dumps(question)
        self._wait_for_start()
        deadline = time.monotonic() + self._wall_s
        try:
            self._line.settimeout(self._wall_s)
            socket.send_fds(self._line, [LENGTH.pack(len(content))], [] if shared is None else [shared])
            self._line.sendall(content)
            (length,) = LENGTH.unpack(self._receive(LENGTH.size, deadline))
            if length > MOST_ANSWER_BYTES:
                raise ValueError("an answer is too long")
            return Answer.decode(self._receive(length, deadline))
        except TimeoutError as error:
            raise Ended(self.end(at_once=True), self._too_long) from error
        except ValueError as error:
            raise Ended(self.end(at_once=True), "its decoder gave no sensible answer") from error
        except OSError as error:
            status = self.end()
            raise Ended(status, self._blame(status)) from error

    def _blame(self, status: int) -> str:
        if status == -signal.SIGXCPU:
            return self._too_long
        name = signal.Signals(-status).name if -status in set(signal.Signals) else ""
        return f"its decoder crashed on it ({name})" if name in _CRASHES else ""

    def _wait_for_start(self) -> None:
        """It says a byte when it has loaded what it needs: that time is no question's."""
        if self._started:
            return
        try:
            self._line.settimeout(_START_S)
            self._started = bool(self._line.recv(1))
        except OSError as error:
            raise Ended(self.end(at_once=True), "") from error
        if not self._started:
            raise Ended(self.end(), "")

    def _receive(self, length: int, deadline: float) -> bytes:
        content = b""
        while len(content) < length:
            self._line.settimeout(max(0.001, deadline - time.monotonic()))
            part = self._line.recv(length - len(content))
            if not part:
                raise ConnectionError("the decoder process has gone")
            content += part
        return content

    def end(self, *, at_once: bool = False) -> int:
        """Its exit status. An idle process ends by itself when the line is closed, a busy one by SIGIO."""
        self._line.close()
        if at_once:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=_GOODBYE_S)
        self._process.kill()
        return self._process.wait()

    def kill(self) -> None:
        """End it while another thread waits for its answer, who is told so."""
        self._process.kill()

    def forget(self) -> None:
        """After a fork: the process belongs to the other one of the two."""
        self._line.close()
        self._process.returncode = 0


def _environment() -> dict[str, str]:
    """No more than it needs: the node's secrets may stand in variables."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **one_thread, **_KEEPING_MEMORY, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
