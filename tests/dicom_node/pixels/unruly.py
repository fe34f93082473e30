"""A decoder process whose decoder does what hostile bytes make real ones do, by the name of the file it is asked to decode.

Run as a program, with the arguments of ``dicom_node.pixels.child`` after its own first: how long it stays idle.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from typing import Any, NoReturn

from numpy.typing import NDArray

from dicom_node.pixels import child, codecs
from dicom_node.pixels.task import Decode

_decode = codecs.decode


def _spin() -> NoReturn:
    while True:
        pass


def _grow() -> NoReturn:
    held = []
    while True:
        held.append(bytearray(b"\1") * (1 << 24))


def _misbehave(task: Decode) -> NDArray[Any]:
    deeds = {
        "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "abort": os.abort,
        "loop": _spin,
        "native loop": lambda: re.match("(a+)+$", "a" * 64 + "b"),  # never comes back to the interpreter
        "hang": lambda: time.sleep(600),
        "grow": _grow,
        "reserve": lambda: bytearray(1 << 40),
        "nonsense": lambda: os.write(int(sys.argv[2]), b"\xff" * 64),
        "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "vanish": lambda: os._exit(0),
        "stopped": lambda: os.kill(os.getpid(), signal.SIGTERM),
        "write": lambda: task.path.with_suffix(".written").write_bytes(b"x"),
    }
    marker = task.path.with_suffix(".once")
    if marker.exists():
        marker.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if deed := deeds.get(task.path.stem):
        deed()
    return _decode(task)


if __name__ == "__main__":
    codecs.decode = _misbehave
    child.IDLE_S = float(sys.argv[1])  # type: ignore[misc]
    child.main(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
