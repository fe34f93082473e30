"""An audit record repository: a syslog server by RFC 5425 and RFC 6587, with mutual TLS where it is given certificates."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

_SYSLOG = re.compile(  # RFC 5424 section 6: HEADER SP STRUCTURED-DATA SP BOM MSG
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) - "
    rb"\xef\xbb\xbf(.*)",
    re.DOTALL,
)


def parsed(line: bytes) -> tuple[int, str, str]:
    """Priority, message ID and message of one syslog line. Fails where it is none."""
    found = _SYSLOG.fullmatch(line)
    assert found is not None, line[:200]
    return int(found[1]), found[6].decode(), found[7].decode()


class Repository:
    """Listens from the start. ``tls``: its certificate, key, and the certificate that senders must show.

    ``break_after``: cuts each connection after so many messages, without a word.
    """

    def __init__(self, tls: tuple[Path, Path, Path] | None = None, port: int = 0, break_after: int = 10**9) -> None:
        self.lines: list[bytes] = []
        self.peers: list[str] = []
        self._break_after = break_after
        self._context = _context(tls) if tls else None
        self._server = socket.create_server(("127.0.0.1", port))
        self.port = int(self._server.getsockname()[1])
        self._open: list[socket.socket] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """As when its machine loses power: nothing that is in a buffer is read any more."""
        self._stopping = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError):
            connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
            self._open.append(connection)
            if isinstance(connection, ssl.SSLSocket):
                subject = dict(part[0] for part in (connection.getpeercert() or {}).get("subject", ()))  # type: ignore[misc]
                self.peers.append(str(subject.get("commonName")))
            self._read(connection)
            connection.close()
        plain.close()

    def _read(self, connection: socket.socket) -> None:
        stream, count = connection.makefile("rb"), 0
        while count < self._break_after:
            length = b""
            while (byte := stream.read(1)) not in (b" ", b""):
                length += byte
            if not length:
                return
            line = stream.read(int(length))
            if len(line) < int(length):
                return
            self.lines.append(line)
            count += 1


def _context(tls: tuple[Path, Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls[0], tls[1])
    context.load_verify_locations(tls[2])
    context.verify_mode = ssl.CERT_REQUIRED
    return context
