"""Real processes on loopback, each ended by its own id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support import peer_path

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
SYSTEM_PATH = os.pathsep.join([peer_path(), "/usr/sbin", "/usr/local/sbin"])  # Debian puts Orthanc in sbin


def require(program: str, package: str) -> str:
    """The path of a peer's program. Skips where it is not installed; fails in CI, which installs it."""
    found = shutil.which(program, path=SYSTEM_PATH)
    if found is None:
        why = f"{program} is not installed (Debian package {package}); run tests/acceptance/install_peers.sh as root"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"in CI, but {why}")
        pytest.skip(why)
    return found


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, probe: Callable[[], T], *, seconds: float = 60, every: float = 0.2) -> T:
    """The first true value of ``probe``; raises TimeoutError naming ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}; last seen: {value!r}")
        time.sleep(every)


class Running:
    """A process in a session of its own, with its output in a file."""

    def __init__(
        self, name: str, command: Sequence[object], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**(env or os.environ), "PYTHONUNBUFFERED": "1"},
                cwd=cwd or ROOT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def must_live(self) -> None:
        """Raise with the end of its output where it has ended."""
        if not self.alive:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.output[-3000:]}")

    def stop(self, grace: float = 40) -> int:
        """SIGTERM to the process itself; SIGKILL to its session after ``grace`` seconds. Returns its exit status."""
        if self.alive:
            self.process.terminate()
        try:
            return self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill_session()
            raise AssertionError(f"{self.name} did not end {grace:g} s after SIGTERM:\n{self.output[-3000:]}") from None

    def kill(self) -> None:
        """SIGKILL to the process alone."""
        self.process.kill()
        self.process.wait()

    def kill_session(self) -> None:
        """SIGKILL to the process and all it started: as when the power fails."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def session(self) -> dict[int, str]:
        """Living processes of its session: id to command line."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[3]) == self.pid and stat[0] != "Z":
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        return found
