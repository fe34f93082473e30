"""A few decoder processes, kept for the next frame and replaced when one dies."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from numpy.typing import NDArray

from dicom_node.errors import PixelError, StorageBusy, StorageError
from dicom_node.pixels.child_process import ChildProcess, Ended
from dicom_node.pixels.limits import Limits
from dicom_node.pixels.shared_memory import Piece, Pieces
from dicom_node.pixels.task import MOST_PICTURE_BYTES, Answer, Decode, Inspect, Outcome, Picture, Question

_PROGRAM: Final = ("-m", "dicom_node.pixels.child")
_STARTS: Final = 3  # for one frame, where a process ends for a reason that need not be the frame's: it was idle, or killed


class Decoders:
    """Decodes frames in processes of their own, which start when they are needed. Thread-safe.

    Raises PixelError where a frame cannot be decoded within ``limits`` or its decoder crashes; StorageError where the file
    cannot be opened, or no decoder process can be started.
    """

    def __init__(self, limits: Limits, program: Sequence[str] = _PROGRAM) -> None:
        """``program``: the interpreter's arguments that start a decoder process, before its own."""
        self.limits = limits
        self._program = program
        self._slots = threading.BoundedSemaphore(limits.count)
        self._lock = threading.Lock()
        self._free: list[ChildProcess] = []
        self._busy: list[ChildProcess] = []
        self._pieces = Pieces(limits.count)
        self._owner = os.getpid()
        self._closed = False

    def decode(self, task: Decode) -> NDArray[Any]:
        """The frame, read-only; see ``decode_frame``."""
        self._after_fork()
        piece = self._new_piece(task.layout.decoded_frame_bytes)
        try:
            answer = self._ask(task, piece.descriptor)
            if answer.shape not in task.shapes:
                raise PixelError("its pixel data do not have the size that its header states")
            return self._pieces.pixels(piece, answer.shape, answer.kind)
        except BaseException:
            piece.close()
            raise

    def picture(self, asked: Picture) -> bytes:
        """A coded picture; neither header nor pixels are read in this process."""
        self._after_fork()
        piece = self._new_piece(MOST_PICTURE_BYTES)  # memory is taken only for what is written
        try:
            answer = self._ask(asked, piece.descriptor)
            if len(answer.shape) != 1 or answer.shape[0] > MOST_PICTURE_BYTES or answer.kind != "u1":
                raise PixelError("its decoder gave no sensible answer")
            return self._pieces.pixels(piece, answer.shape, answer.kind).tobytes()
        except BaseException:
            piece.close()
            raise

    def _new_piece(self, size: int) -> Piece:
        try:
            return self._pieces.take(size)
        except OSError as error:
            raise StorageBusy(f"there is no memory for a frame ({error.strerror})") from error

    def inspect(self, path: Path) -> None:
        """Raise PixelError where the header of ``path`` cannot be read within the limits."""
        self._ask(Inspect(path), None)

    @property
    def pids(self) -> tuple[int, ...]:
        with self._lock:
            return tuple(child.pid for child in (*self._free, *self._busy))

    def warm(self) -> None:
        """Start the processes now, so that the first frame need not wait for one."""
        with self._lock:
            while len(self._free) + len(self._busy) < self.limits.count:
                self._free.append(self._started())

    def close(self) -> None:
        """End all processes; frames in work fail with StorageError."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
            busy = list(self._busy)
        self._pieces.close()
        for child in free:
            child.end()
        for child in busy:
            child.kill()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, question: Question, shared: int | None) -> Answer:
        for _ in range(_STARTS):
            try:
                with self._child() as child:
                    answer = child.ask(question, shared)
                break
            except Ended as ended:
                status = ended.status
                if ended.reason:
                    raise PixelError(ended.reason) from ended
                if self._closed:
                    raise StorageError("the node is stopping; its decoders have ended") from ended
        else:
            if status == -signal.SIGKILL:
                raise PixelError("its decoder was killed by the system each time, as it is for lack of memory")
            raise StorageError(f"decoder processes do not stay up (exit status {status})")
        return self._checked(answer)

    def _checked(self, answer: Answer) -> Answer:
        if answer.outcome is Outcome.REFUSED:
            raise PixelError(answer.reason)
        if answer.outcome is Outcome.UNAVAILABLE:
            raise StorageError(answer.reason)
        if answer.outcome is Outcome.NO_MEMORY:
            raise PixelError(f"it needs more than the {self.limits.memory_mb} MiB that a decoder may use")
        return answer

    @contextmanager
    def _child(self) -> Iterator[ChildProcess]:
        """A process for one question; one that ended, or was interrupted in the middle of its answer, does not come back."""
        self._after_fork()
        with self._slots:
            child = self._taken()
            try:
                yield child
            except BaseException as error:
                self._drop(child)
                if not isinstance(error, Ended):
                    child.end(at_once=True)
                raise
            self._give_back(child)

    def _taken(self) -> ChildProcess:
        with self._lock:
            if self._closed:
                raise StorageError("the node is stopping; its decoders have ended")
            child = self._free.pop() if self._free else self._started()
            self._busy.append(child)
            return child

    def _started(self) -> ChildProcess:
        try:
            return ChildProcess(self.limits, self._program)
        except OSError as error:
            raise StorageBusy(f"no decoder process can be started ({error.strerror})") from error

    def _give_back(self, child: ChildProcess) -> None:
        with self._lock:
            self._busy.remove(child)
            if not self._closed:
                self._free.append(child)
                return
        child.end()

    def _drop(self, child: ChildProcess) -> None:
        with self._lock:
            self._busy.remove(child)

    def _after_fork(self) -> None:
        """A forked process starts decoders of its own: it must not talk on the lines of the process it came from."""
        if self._owner == os.getpid():
            return
        self._owner = os.getpid()
        self._lock, self._slots = threading.Lock(), threading.BoundedSemaphore(self.limits.count)
        for child in (*self._free, *self._busy):
            child.forget()
        self._free, self._busy, self._pieces = [], [], Pieces(self.limits.count)


@cache
def shared_decoders() -> Decoders:
    """The decoders of this process where nobody passes others, with the default limits; they end with the process."""
    decoders = Decoders(Limits())
    atexit.register(decoders.close)
    return decoders
