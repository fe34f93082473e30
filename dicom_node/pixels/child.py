"""The decoder process: reads one question after the other from its parent, decodes, answers.

Whatever hostile bytes do to a decoder, they do it here: the process has little memory and time, may write no file, gives way to
the model and ends with its parent. ``python -m dicom_node.pixels.child DESCRIPTOR MEMORY_BYTES SECONDS``.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import pickle
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from dicom_node.errors import PixelError, StorageError
from dicom_node.pixels import codecs
from dicom_node.pixels.instances import read_here
from dicom_node.pixels.task import (
    LENGTH,
    MOST_PICTURE_BYTES,
    STARTED,
    Answer,
    Decode,
    Inspect,
    Outcome,
    Picture,
    Question,
    kind_of,
    mapped,
)

IDLE_S: Final = 60.0  # a process that nobody asks gives its memory back by ending
_NICENESS: Final = 10
_AT_ONCE: Final = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # its pages come in one step, not one by one


def main(descriptor: int, memory: int, seconds: float) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which ends us when it is done with us
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO, signal.SIGXCPU})
    _restrict(memory)
    with socket.socket(fileno=descriptor) as parent:
        parent.sendall(STARTED)
        while select.select([parent], [], [], IDLE_S)[0] and (question := _receive(parent)):
            _allow(seconds)
            with _ending_with(parent):
                content = _answer(*question).encode()
            parent.sendall(LENGTH.pack(len(content)) + content)


def _restrict(memory: int) -> None:
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    limit = _address_space() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _address_space() -> int:
    """Bytes of address space in use now; 0 where the system does not say (not Linux)."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    return 0


def _allow(seconds: float) -> None:
    """Computing time for the next question; past it the system ends us by SIGXCPU, in native code too."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, hard))


def _receive(parent: socket.socket) -> tuple[Question, int | None] | None:
    """The next question and its shared memory; None where the parent has gone."""
    start, descriptors, _, _ = socket.recv_fds(parent, LENGTH.size, 1)
    if len(start) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(start)
    content = bytearray()
    while len(content) < length:
        part = parent.recv(length - len(content))
        if not part:
            return None
        content += part
    return pickle.loads(content), descriptors[0] if descriptors else None


@contextlib.contextmanager
def _ending_with(parent: socket.socket) -> Iterator[None]:
    """While a decoder runs nothing is said: a sign on the line is the parent's end, and SIGIO ends us, in native code too."""
    flags = fcntl.fcntl(parent, fcntl.F_GETFL)
    fcntl.fcntl(parent, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(parent, fcntl.F_SETFL, flags)


def _answer(question: Question, shared: int | None) -> Answer:
    try:
        if isinstance(question, Inspect):
            read_here(question.path)
            return Answer(Outcome.DONE)
        return _decoded(question, shared) if isinstance(question, Decode) else _drawn(question, shared)
    except PixelError as error:
        return Answer(Outcome.REFUSED, reason=error.reason)
    except StorageError as error:
        return Answer(Outcome.UNAVAILABLE, reason=str(error))
    except MemoryError:
        return Answer(Outcome.NO_MEMORY)
    except Exception as error:  # noqa: BLE001 - pydicom raises nearly anything on damaged bytes
        return Answer(Outcome.REFUSED, reason=f"its header or pixel data are damaged ({type(error).__name__})")
    finally:
        if shared is not None:
            os.close(shared)


def _decoded(task: Decode, shared: int | None) -> Answer:
    pixels = codecs.decode(task)
    if shared is None:
        raise ValueError("no memory was given for the pixels")
    with mmap.mmap(shared, 0, flags=_AT_ONCE) as memory:
        target = mapped(memory, pixels.shape, kind_of(pixels))
        np.copyto(target, pixels)
        del target  # a mapping in use cannot be closed
    return Answer(Outcome.DONE, pixels.shape, kind_of(pixels))


def _drawn(asked: Picture, shared: int | None) -> Answer:
    from dicom_node.pixels.picture import drawn  # loads all of rendering: only when a picture is asked for

    content = drawn(asked)
    if shared is None or len(content) > MOST_PICTURE_BYTES:
        raise PixelError(f"its picture is larger than {MOST_PICTURE_BYTES >> 20} MiB")
    with mmap.mmap(shared, 0) as memory:
        memory[: len(content)] = content
    return Answer(Outcome.DONE, (len(content),), "u1")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
