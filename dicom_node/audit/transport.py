"""Carrying syslog to the repository: TLS (RFC 5425), TCP with octet counting (RFC 6587), UDP (RFC 5426), or a file.

Syslog has no answer. Over TLS and TCP a message counts as carried when the peer's system has acknowledged its last byte and
the connection has lived on; what was sent shortly before it broke is sent again.
"""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from dicom_node.audit.syslog import counted_frame
from dicom_node.audit_settings import AuditRepository
from dicom_node.errors import PeerUnavailable
from dicom_node.remote.tls import TlsFiles, client_context, tls_fault
from dicom_node.settings import Settings
from dicom_node.storage.paths import sync_folder, write_all

_SIOCOUTQ: Final = 0x5411  # linux/sockios.h: bytes that were written and are not yet acknowledged
_LOOK_S: Final = 0.01
_UDP_MOST: Final = 65507


class Transport(Protocol):
    """``name`` for messages. ``keeps``: what ``send`` returned from is safe at once."""

    name: str
    keeps: bool

    def send(self, lines: Sequence[bytes]) -> None:
        """Returns when the peer's system has them all. Raises PeerUnavailable."""
        ...

    def alive(self) -> bool:
        """Whether the connection over which was last sent still stands."""
        ...

    def close(self) -> None: ...


class Stream:
    """TCP, with TLS where ``tls`` is given; connected at the first use and again after a failure."""

    keeps = False

    def __init__(self, host: str, port: int, tls: TlsFiles | None, timeout_s: float) -> None:
        self.name = f"audit repository {host} port {port}"
        self._address, self._tls, self._timeout_s = (host, port), tls, timeout_s
        self._socket: socket.socket | None = None

    def send(self, lines: Sequence[bytes]) -> None:
        try:
            connection = self._connected()
            connection.sendall(b"".join(map(counted_frame, lines)))
            self._wait_until_acknowledged(connection)
        except OSError as error:
            self.close()
            raise PeerUnavailable(f"{self.name}: {tls_fault(error)}") from error
        if not self.alive():
            raise PeerUnavailable(f"{self.name} closed the connection")

    def alive(self) -> bool:
        """A repository says nothing; what can be read is the end."""
        if self._socket is None:
            return False
        try:
            self._socket.setblocking(False)
            try:
                ended = self._socket.recv(1) == b""
            finally:
                self._socket.settimeout(self._timeout_s)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            ended = True
        if ended:
            self.close()
        return not ended

    def close(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            with suppress(OSError):
                connection.close()

    def reach(self) -> None:
        """Connect, for `wetread check`. Raises PeerUnavailable."""
        try:
            self._connected()
        except OSError as error:
            raise PeerUnavailable(f"{self.name}: {tls_fault(error)}") from error
        finally:
            self.close()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            context = None if self._tls is None else client_context(self.name, self._tls)
            plain = socket.create_connection(self._address, self._timeout_s)
            try:
                self._socket = plain if context is None else context.wrap_socket(plain, server_hostname=self._address[0])
            except OSError:
                plain.close()
                raise
        return self._socket

    def _wait_until_acknowledged(self, connection: socket.socket) -> None:
        deadline = time.monotonic() + self._timeout_s
        while struct.unpack("i", fcntl.ioctl(connection.fileno(), _SIOCOUTQ, b"\0" * 4))[0]:
            if time.monotonic() > deadline:
                raise TimeoutError("it acknowledges nothing")
            time.sleep(_LOOK_S)


class Datagrams:
    """UDP: nothing tells whether a message arrived. For repositories that take nothing better."""

    keeps = True

    def __init__(self, host: str, port: int) -> None:
        self.name = f"audit repository {host} port {port} (UDP)"
        self._address = (host, port)

    def send(self, lines: Sequence[bytes]) -> None:
        try:
            family = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family[0], socket.SOCK_DGRAM) as out:
                for line in lines:
                    out.sendto(line[:_UDP_MOST], family[4])
        except OSError as error:
            raise PeerUnavailable(f"{self.name}: {error.strerror or type(error).__name__}") from error

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        return


class LogFile:
    """One line a message, in a file that only its owner may read; safe on the disk when ``send`` returns."""

    keeps = True

    def __init__(self, path: Path) -> None:
        self.name = f"audit file {path}"
        self._path = path

    def send(self, lines: Sequence[bytes]) -> None:
        try:
            new = not self._path.exists()
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                write_all(descriptor, b"".join(line + b"\n" for line in lines))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                sync_folder(self._path.parent)
        except OSError as error:
            raise PeerUnavailable(f"{self.name}: {error.strerror or type(error).__name__}") from error

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        return


def transport_of(settings: Settings, wished: AuditRepository) -> Stream | Datagrams | LogFile:
    """The configured way to the repository."""
    if wished.kind == "file":
        return LogFile(settings.path(wished.path or "audit.log"))
    if wished.kind == "udp":
        return Datagrams(wished.host, wished.port)
    files = wished.tls
    places = [None if one is None else settings.path(one) for one in (files.ca_file, files.certificate_file, files.key_file)]
    return Stream(wished.host, wished.port, TlsFiles(*places) if wished.kind == "tls" else None, wished.timeout_s)
