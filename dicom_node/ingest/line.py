"""The connection with a peer, read by one thread that sleeps until bytes come.

On Linux the bulk of an object goes from the socket through a pipe into its file without entering this process
(``splice``): one copy by the kernel and three calls for each PDU. Elsewhere, and under TLS, it passes a buffer of fixed size.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import sys
import time

from dicom_node.errors import StorageError
from dicom_node.storage.arriving import ArrivingFile
from dicom_node.storage.paths import translated

BUFFER = 32768  # bytes: a whole command, and the beginning of the data set behind it
_BULK = 131072  # bytes read at once where there is no splice
_PIPE = 262144  # bytes; 64 segments of a network card find room
_F_SETPIPE_SZ = 1031  # linux/fcntl.h
_DRAINED_S = 1.0


class Lost(Exception):  # noqa: N818 - not a failure of ours
    """The connection has ended."""


class Silent(Exception):  # noqa: N818
    """Nothing came in time, or too little."""


class PeerAborted(Exception):  # noqa: N818
    """The peer sent an A-ABORT."""


class Line:
    """Reads and writes one connected socket. Only one thread may read. Every call may raise Lost or Silent."""

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        self._socket = connection
        self._plain = sys.platform == "linux" and not isinstance(connection, ssl.SSLSocket)
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._low = self._high = 0
        self._bulk: memoryview | None = None
        self._pipe: tuple[int, int] | None = None
        self.received = 0  # bytes, all there were
        self.limit(timeout_s)

    def limit(self, timeout_s: float) -> None:
        """How long one read or write waits."""
        self._timeout_s = timeout_s
        if not self._plain:
            self._socket.settimeout(timeout_s)
            return
        self._socket.settimeout(None)  # the kernel keeps the time: Python's own way costs a poll before each call
        value = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1e6) or 1)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, value)

    def peek(self, form: struct.Struct, least: int) -> tuple[int, ...] | None:
        """What the next bytes are, of which no more are read; they stay. None where only ``least`` of them have come."""
        if self._high == self._low:
            self._low, self._high = 0, self._receive(self._view[: form.size])
        if self._high - self._low < form.size:
            self._fill(least, form.size)
            if self._high - self._low < form.size:
                return None
        return form.unpack_from(self._buffer, self._low)

    def pass_by(self, count: int) -> None:
        """Forget the next ``count`` bytes, which are at hand."""
        self._low += count

    def fetch(self, count: int, ahead: int = 0) -> memoryview:
        """Exactly ``count`` bytes, at most ``BUFFER``, valid until the next call. Up to ``ahead`` more may be read."""
        if self._high - self._low < count:
            self._fill(count, count + ahead)
        self._low += count
        return self._view[self._low - count : self._low]

    def fetch_some(self, least: int, most: int) -> memoryview:
        """As ``fetch``, of at least ``least`` bytes and as many more of ``most`` as have been read already."""
        if self._high - self._low < least:
            self._fill(least, min(most, BUFFER // 2))
        count = min(most, self._high - self._low)
        self._low += count
        return self._view[self._low - count : self._low]

    def waiting(self, seconds: float = 0.0) -> bool:
        """Whether something has come that was not fetched, or the connection has ended; waits no longer than ``seconds``."""
        if self._high > self._low or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
            return True
        poller = select.poll()  # ``select`` knows no descriptor above 1023
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def forward(self, count: int, file: ArrivingFile) -> StorageError | None:
        """Write the next ``count`` bytes to ``file``. A failure of the file is returned, and the bytes are read past."""
        pipe = self._pipe or self._new_pipe()
        if pipe and self._low == self._high:
            return self._splice(pipe, count, file)
        try:
            ready = min(count, self._high - self._low)
            if ready:
                self._low += ready
                count -= ready
                file.write(self._view[self._low - ready : self._low])
            if pipe:
                return self._splice(pipe, count, file)
            self._copy(count, file)
        except _FileFailed as failed:
            self.skip(failed.left)
            return failed.error
        except StorageError as error:
            self.skip(count)
            return error
        return None

    def skip(self, count: int) -> None:
        """Read ``count`` bytes and forget them."""
        deadline = time.monotonic() + self._timeout_s
        while count:
            if self._low == self._high:
                self._fill(1, BUFFER if count > BUFFER else count)
            step = min(count, self._high - self._low)
            self._low += step
            count -= step
            _in_time(deadline, count)

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except (BlockingIOError, TimeoutError) as error:
            raise Silent("the peer does not take our answers") from error
        except (OSError, ValueError) as error:
            raise _ended(error) from error

    def hang_up(self, grace_s: float = _DRAINED_S) -> None:
        """Let the peer take what was sent last, and close. Never raises."""
        with contextlib.suppress(OSError, ValueError, Lost, Silent):
            self._socket.settimeout(grace_s)
            self._plain = False
            if not isinstance(self._socket, ssl.SSLSocket):
                shut(self._socket, socket.SHUT_WR)
            end = time.monotonic() + grace_s
            while time.monotonic() < end and self._socket.recv_into(self._buffer):
                pass
        self.close()

    def close(self) -> None:
        self._drop_pipe()
        self._socket.close()

    def _fill(self, least: int, most: int) -> None:
        if self._low == self._high:
            self._low = self._high = 0
        elif self._low + least > BUFFER:
            self._buffer[: self._high - self._low] = self._buffer[self._low : self._high]
            self._low, self._high = 0, self._high - self._low
        most = min(self._low + most, BUFFER)
        deadline = time.monotonic() + self._timeout_s
        while self._high - self._low < least:
            self._high += self._receive(self._view[self._high : most])
            _in_time(deadline, least - (self._high - self._low))

    def _receive(self, into: memoryview) -> int:
        try:
            count = self._socket.recv_into(into)
        except (OSError, ValueError) as error:
            raise _ended(error) from error
        if not count:
            raise Lost("the peer closed the connection")
        self.received += count
        return count

    def _copy(self, count: int, file: ArrivingFile) -> None:
        if self._bulk is None:
            self._bulk = memoryview(bytearray(_BULK))
        deadline = time.monotonic() + self._timeout_s
        while count:
            came = self._receive(self._bulk[:count])
            count -= came
            try:
                file.write(self._bulk[:came])
            except StorageError as error:
                raise _FileFailed(error, count) from error
            _in_time(deadline, count)

    def _splice(self, pipe: tuple[int, int], count: int, file: ArrivingFile) -> StorageError | None:
        """Socket → pipe → file. Everything of a PDU is done here, with as little as there can be for each piece."""
        source, sink = pipe
        connection, descriptor, splice = self._socket.fileno(), file.descriptor, os.splice
        deadline, came, moved = time.monotonic() + self._timeout_s, 0, 0
        try:
            while count:
                came, moved = splice(connection, sink, count if count < _PIPE else _PIPE), 0
                if not came:
                    raise Lost("the peer closed the connection")
                count -= came
                while moved < came:
                    moved += splice(source, descriptor, came - moved)
                file.size += came
                self.received += came
                if count:
                    _in_time(deadline, count)
        except (OSError, ValueError) as error:
            if moved < came:
                return self._spool_failed(error, file, count)
            raise _ended(error) from error
        return None

    def _spool_failed(self, error: Exception, file: ArrivingFile, left: int) -> StorageError:
        self._drop_pipe()  # with what is left in it
        self.skip(left)
        try:
            with translated(file.path):
                raise error
        except StorageError as failure:
            return failure

    def _new_pipe(self) -> tuple[int, int] | None:
        """None under TLS, and where there is no descriptor for one: a buffer does, too."""
        if self._plain:
            with contextlib.suppress(OSError):
                self._pipe = _pipe()
        return self._pipe

    def _drop_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        for end in pipe or ():
            os.close(end)


class _FileFailed(Exception):  # noqa: N818
    """``left``: bytes that were to come."""

    def __init__(self, error: StorageError, left: int) -> None:
        super().__init__()
        self.error = error
        self.left = left


def shut(connection: socket.socket, how: int) -> None:
    """End one direction or both, also from another thread: whoever reads or writes there finds it ended.

    Not by ``SSLSocket.shutdown``: that ends only the encryption, and whoever reads gets what still comes as it was sent.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, how)


def _pipe() -> tuple[int, int]:
    source, sink = os.pipe()
    with contextlib.suppress(OSError):  # more than the user's share of pipe memory: a small pipe does, too
        import fcntl

        fcntl.fcntl(sink, _F_SETPIPE_SZ, _PIPE)
    return source, sink


def _in_time(deadline: float, missing: int) -> None:
    if missing > 0 and time.monotonic() > deadline:
        raise Silent("the peer sends too slowly")


def _ended(error: Exception) -> Lost | Silent:
    if isinstance(error, BlockingIOError | TimeoutError):
        return Silent("nothing came in time")
    return Lost(f"the connection broke ({getattr(error, 'strerror', None) or type(error).__name__})")
