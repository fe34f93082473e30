"""Notices to a web address, signed after the Standard Webhooks specification 1.0.0 (HMAC-SHA256 over id, time and body)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from pathlib import Path
from typing import Final

from dicom_node.errors import PeerUnavailable
from dicom_node.remote.http import HttpPeer, read_line, refusal, request

_PREFIX: Final = "whsec_"  # marks a secret written in base64
_SHORTEST: Final = 24  # bytes of a secret (Standard Webhooks: 24 to 64)


def read_secret(peer: HttpPeer, file: Path) -> bytes:
    """The key of the signature: one line, as it is, or in base64 after ``whsec_``. Raises PeerUnavailable."""
    line = read_line(peer, "secret", file)
    try:
        secret = base64.b64decode(line.removeprefix(_PREFIX), validate=True) if line.startswith(_PREFIX) else line.encode()
    except binascii.Error as error:
        raise PeerUnavailable(f"{peer}: what follows whsec_ in secret file {file} is not base64") from error
    if len(secret) < _SHORTEST:
        raise PeerUnavailable(f"{peer}: secret file {file} holds {len(secret)} bytes; at least {_SHORTEST} are needed")
    return secret


def post(peer: HttpPeer, secret: bytes, key: str, body: bytes) -> None:
    """POST a JSON notice. The same ``key`` gives the same ``webhook-id`` and ``Idempotency-Key``, however often it is sent.

    Raises PeerUnavailable where trying again may help, PeerRefused where the receiver refuses this notice.
    """
    identifier = "msg_" + hashlib.sha256(key.encode()).hexdigest()[:32]
    at = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "WetRead",
        "Idempotency-Key": f'"{identifier}"',
        "webhook-id": identifier,
        "webhook-timestamp": at,
        "webhook-signature": signature(secret, identifier, at, body),
    }
    answer = request(peer, "POST", "", body, headers)
    if not answer.good:
        raise refusal(peer, answer.status)


def reach(peer: HttpPeer) -> None:
    """Ask the address for its options: that it answers counts, whatever it says. Raises PeerUnavailable."""
    request(peer, "OPTIONS", "", None, {})


def signature(secret: bytes, identifier: str, at: str, body: bytes) -> str:
    """``v1,`` and the base64 of HMAC-SHA256 over ``id.time.body``."""
    signed = f"{identifier}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
