"""How many associations are open, in one process or over several that share a port."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

_FIELDS: Final = 4
_INSIDE, _TAKEN, _ENDED, _BEATS = range(_FIELDS)
_ADMISSION, _TURN = 0, 1  # bytes that are locked
_LOCK: Final = struct.Struct("hhqqi")  # struct flock: type, whence, start, length, process


class Counts(Protocol):
    """Admission: ``held`` is one at a time over all processes; ``inside`` and ``change`` belong to it."""

    def held(self) -> AbstractContextManager[None]: ...

    def inside(self) -> int: ...

    def change(self, by: int) -> None: ...


class OwnCounts:
    """Of this process alone."""

    def __init__(self) -> None:
        self._inside = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        yield

    def inside(self) -> int:
        return self._inside

    def change(self, by: int) -> None:
        self._inside += by


class SharedCounts:
    """A page of memory shared by a parent and its receiving processes, each of which writes its own row.

    Locks belong to an open file description, of which each process has its own: the system frees them when a process dies.
    (POSIX record locks belong to a process: of two whose threads hold one lock and wait for the other, the system believes that
    they wait for each other, and refuses.) ``slot``: the row of this process; of the parent none.
    """

    def __init__(self, descriptor: int, slot: int | None = None) -> None:
        self.descriptor = descriptor
        self._locks = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        self._slot = slot
        self._numbers = memoryview(mmap.mmap(descriptor, 0)).cast("i")
        self._turns, self._adding = threading.Lock(), threading.Lock()

    @classmethod
    def made(cls, slots: int) -> SharedCounts:
        descriptor = os.memfd_create("wetread-associations", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, slots * _FIELDS * 4)
        return cls(descriptor)

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._locked(_ADMISSION):
            yield

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One at a time over all processes, and about in order: SQLite's own wait polls and is not fair."""
        with self._turns, self._locked(_TURN):
            yield

    def close(self) -> None:
        """No process shares it any more."""
        os.close(self.descriptor)
        os.close(self._locks)

    def inside(self) -> int:
        return sum(self._numbers[_INSIDE::_FIELDS])

    def change(self, by: int) -> None:
        self._add(_INSIDE, by)

    def took(self) -> None:
        """This process has a connection that it was given."""
        self._add(_TAKEN, 1)

    def ended(self) -> None:
        """A connection that this process was given is over."""
        self._add(_ENDED, 1)

    def beat(self) -> None:
        """This process lives."""
        self._add(_BEATS, 1)

    def clear(self, slot: int) -> None:
        """The process of ``slot`` is gone."""
        with self.held():
            for number in range(_FIELDS):
                self._numbers[slot * _FIELDS + number] = 0

    def load(self, slot: int, given: int) -> tuple[int, int]:
        """Of ``given`` connections, how many the process has not taken, and how many are not over."""
        return given - self._numbers[slot * _FIELDS + _TAKEN], given - self._numbers[slot * _FIELDS + _ENDED]

    def beats(self, slot: int) -> int:
        return self._numbers[slot * _FIELDS + _BEATS]

    def _add(self, number: int, by: int) -> None:
        assert self._slot is not None, "the parent has no row"
        with self._adding:
            self._numbers[self._slot * _FIELDS + number] += by

    @contextmanager
    def _locked(self, byte: int) -> Iterator[None]:
        self._set_lock(fcntl.F_WRLCK, byte)
        try:
            yield
        finally:
            self._set_lock(fcntl.F_UNLCK, byte)

    def _set_lock(self, kind: int, byte: int) -> None:
        fcntl.fcntl(self._locks, fcntl.F_OFD_SETLKW, _LOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
