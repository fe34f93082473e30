"""A cable of one's own: a network namespace behind a pair of virtual interfaces, which can be cut and mended."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from .processes import SYSTEM_PATH


@dataclass(frozen=True, slots=True)
class Cable:
    """``here`` and ``there``: the addresses of its two ends. ``namespace``: where the far end is."""

    namespace: str
    interface: str
    here: str
    there: str

    def cut(self) -> None:
        _ip("link", "set", self.interface, "down")

    def mend(self) -> None:
        _ip("link", "set", self.interface, "up")

    def far(self, command: Sequence[str]) -> list[str]:
        """``command``, to be run at the far end."""
        return [_program(), "netns", "exec", self.namespace, *command]


@contextmanager
def cable() -> Iterator[Cable]:
    """Skips where there is no `ip` or where this user may make no namespace."""
    name, number = f"wr{os.getpid()}", os.getpid() % 250
    one = Cable(name, f"{name}a", f"10.213.{number}.1", f"10.213.{number}.2")
    if _ip("netns", "add", name, check=False):
        pytest.skip("this user may make no network namespace; run as root")
    try:
        _ip("link", "add", one.interface, "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _ip("addr", "add", f"{one.here}/24", "dev", one.interface)
        _ip("link", "set", one.interface, "up")
        _ip("-n", name, "addr", "add", f"{one.there}/24", "dev", f"{name}b")
        _ip("-n", name, "link", "set", f"{name}b", "up")
        yield one
    finally:
        _ip("link", "del", one.interface, check=False)
        _ip("netns", "del", name, check=False)


def _program() -> str:
    found = shutil.which("ip", path=SYSTEM_PATH + os.pathsep + "/sbin")
    if found is None:
        pytest.skip("`ip` is not installed (Debian package iproute2)")
    return found


def _ip(*arguments: str, check: bool = True) -> int:
    done = subprocess.run([_program(), *arguments], capture_output=True, text=True, check=False, timeout=20)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.returncode
