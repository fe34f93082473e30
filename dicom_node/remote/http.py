"""HTTP peers that we call: login by token or password, TLS, and what a status means for the document."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.tls import TlsFiles, client_context

# What the content of a request may cause; every other refusal (login, address, load, conflict) may pass or be put right.
CONTENT_FAULTS: Final = frozenset({400, 406, 410, 413, 415, 422})
_MOST: Final = 16 << 20  # bytes of an answer
_CHUNK: Final = 1 << 17  # bytes of a large one taken at once


@dataclass(frozen=True, slots=True)
class HttpPeer:
    """An address.

    ``token_file`` holds a bearer token, ``basic_file`` a line ``user:password``; both are read anew for each request, and
    neither is ever told. ``tls``: whom to trust, and our certificate.
    """

    url: str
    token_file: Path | None = None
    timeout_s: float = 30
    basic_file: Path | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """``body``: as sent, after content decoding."""

    status: int
    body: bytes

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


def request(peer: HttpPeer, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> HttpAnswer:
    """One request below the address, redirects not followed: documents go nowhere that the settings do not name.

    Raises PeerUnavailable where no answer comes whole within twice the timeout, however slowly it drips, or where a secret or
    a TLS file cannot be read.
    """
    url = f"{peer.url.rstrip('/')}/{path}" if path else peer.url
    with connected(peer) as client:
        try:
            with client.stream(method, url, content=content, headers=headers) as response:
                return HttpAnswer(response.status_code, _body(peer, response))
        except httpx.HTTPError as error:
            raise PeerUnavailable(f"{peer}: {type(error).__name__}") from error


@contextmanager
def streamed(peer: HttpPeer, path: str, headers: dict[str, str]) -> Iterator[tuple[int, str, Iterator[bytes]]]:
    """GET something large: its status, its Content-Type, and its bytes as they come, each within the timeout of the last.

    Raises PeerUnavailable where the connection fails, also while the bytes are read.
    """
    with connected(peer) as client:
        try:
            with client.stream("GET", f"{peer.url.rstrip('/')}/{path}", headers=headers) as response:
                yield response.status_code, response.headers.get("Content-Type", ""), response.iter_bytes(_CHUNK)
        except httpx.HTTPError as error:
            raise PeerUnavailable(f"{peer}: {type(error).__name__}") from error


def _body(peer: HttpPeer, response: httpx.Response) -> bytes:
    held, deadline = bytearray(), time.monotonic() + peer.timeout_s
    for part in response.iter_bytes():
        held += part
        if len(held) > _MOST or time.monotonic() > deadline:
            raise PeerUnavailable(f"{peer}: its answer does not end")
    return bytes(held)


def refusal(peer: HttpPeer, status: int, said: str = "") -> PeerRefused | PeerUnavailable:
    """The error of a status that is no success. ``said``: what the answer tells beyond it, without patient data."""
    kind = PeerRefused if status in CONTENT_FAULTS else PeerUnavailable
    moved = "; it sends us elsewhere: give the new address as `url`" if status in (301, 302, 307, 308) else ""
    return kind(f"{peer}: HTTP {status}{moved}{said}")


def read_line(peer: HttpPeer, what: str, file: Path) -> str:
    """The one line of a secret file. Raises PeerUnavailable, so that a file put right is used without a restart."""
    try:
        secret = file.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PeerUnavailable(f"{peer}: {what} file {file} cannot be read ({why})") from error
    if not secret or not secret.isprintable() or (what != "basic" and not secret.isascii()):  # RFC 7617 2.1: UTF-8 in a pair
        raise PeerUnavailable(
            f"{peer}: {what} file {file} must hold one line of {'UTF-8' if what == 'basic' else 'ASCII'} only"
        )
    return secret


@contextmanager
def connected(peer: HttpPeer, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Client]:
    """A client that is logged in at ``peer``. Raises PeerUnavailable where a secret or a TLS file cannot be read."""
    verify = client_context(peer, peer.tls) if peer.url.startswith("https:") else False
    with httpx.Client(
        headers={**(headers or {}), **_login(peer)}, timeout=peer.timeout_s, verify=verify, trust_env=False
    ) as client:
        yield client


def _login(peer: HttpPeer) -> dict[str, str]:
    if peer.token_file is not None:
        return {"Authorization": f"Bearer {read_line(peer, 'token', peer.token_file)}"}
    if peer.basic_file is not None:
        pair = read_line(peer, "basic", peer.basic_file)
        if ":" not in pair:
            raise PeerUnavailable(f"{peer}: basic file {peer.basic_file} does not hold a line user:password")
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}
