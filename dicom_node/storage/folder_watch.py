"""Waiting for a change in a folder: by inotify(7) where the system has it, which costs nothing while nothing happens."""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

LONGEST_S: Final = 0.5  # after which a waiter looks anyway: at what it may have missed, and whether it is to stop
LOOK_S: Final = 0.04  # where there is no inotify
_ATTRIB, _MODIFY, _CREATE = 0x4, 0x2, 0x100  # inotify(7): IN_ATTRIB, IN_MODIFY, IN_CREATE
_EVENTS_BYTES: Final = 65536

Wait = Callable[[], None]


@contextmanager
def folder_changes(folder: Path) -> Iterator[Wait]:
    """Gives a function that returns when a file in ``folder`` was made or touched, or after a while."""
    descriptor = _watching(folder)
    if descriptor < 0:
        yield partial(time.sleep, LOOK_S)
        return
    try:
        yield partial(_wait, descriptor)
    finally:
        os.close(descriptor)


def _watching(folder: Path) -> int:
    """An inotify descriptor, or -1 where there can be none."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    except (OSError, AttributeError):
        return -1
    if descriptor >= 0 and libc.inotify_add_watch(descriptor, os.fsencode(folder), _ATTRIB | _MODIFY | _CREATE) < 0:
        os.close(descriptor)
        return -1
    return descriptor


def _wait(descriptor: int) -> None:
    ready, _, _ = select.select([descriptor], [], [], LONGEST_S)
    if ready:
        with suppress(BlockingIOError):
            os.read(descriptor, _EVENTS_BYTES)
