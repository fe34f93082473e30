"""Memory that a decoder process writes and the node reads.

Pieces are used again: the system takes longer to make and clear new ones than a decoder takes to fill them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import weakref
from collections import deque
from typing import Any, Final

from numpy.typing import NDArray

from dicom_node.pixels.task import mapped

_STEP: Final = 1 << 20  # sizes are whole MiB, so that pieces fit more than one kind of frame
_KEPT_BYTES: Final = 64 << 20  # larger pieces go back to the system


class Piece:
    """Shared memory of ``size`` bytes; where the system knows seals, nobody can make it shorter under a reader."""

    def __init__(self, size: int) -> None:
        self.size = size
        sealed = hasattr(os, "memfd_create")
        self.descriptor = os.memfd_create("frame", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING) if sealed else _file()
        os.ftruncate(self.descriptor, size)
        if sealed:
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)

    def close(self) -> None:
        os.close(self.descriptor)


def _file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Pieces:
    """Shared memory that is lent for one frame each. Thread-safe, and safe to be called by the garbage collector."""

    def __init__(self, most: int) -> None:
        """``most``: how many unused pieces are kept."""
        self._most = most
        self._free: deque[Piece] = deque()

    def take(self, size: int) -> Piece:
        """At least ``size`` bytes. Raises OSError where the system has none."""
        wanted = -(-max(1, size) // _STEP) * _STEP
        for _ in range(len(self._free)):
            try:
                piece = self._free.popleft()
            except IndexError:
                break
            if wanted <= piece.size <= 2 * wanted:
                return piece
            self.give_back(piece)
        return Piece(wanted)

    def give_back(self, piece: Piece) -> None:
        if piece.size > _KEPT_BYTES or len(self._free) >= self._most:
            piece.close()
        else:
            self._free.append(piece)

    def pixels(self, piece: Piece, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
        """What lies in ``piece``, read-only; it comes back when the array is gone. Raises ValueError where it is too small."""
        memory = mmap.mmap(piece.descriptor, 0, access=mmap.ACCESS_READ)
        found = mapped(memory, shape, kind)
        weakref.finalize(memory, self.give_back, piece).atexit = False
        return found

    def close(self) -> None:
        """Give the unused pieces back to the system."""
        while self._free:
            self._free.pop().close()
