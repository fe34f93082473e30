"""Until when a certificate is valid: read from its DER (RFC 5280 section 4.1), since Python tells it of peers' only."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17


def expiries(file: Path) -> tuple[float, ...]:
    """When each certificate of a PEM file ends, seconds since 1970 UTC. Raises ValueError where there is none, OSError."""
    found = _PEM.findall(file.read_text("ascii", "replace"))
    if not found:
        raise ValueError("it holds no certificate in PEM form")
    return tuple(_not_after(ssl.PEM_cert_to_DER_cert(text)) for text in found)


def _not_after(der: bytes) -> float:
    try:
        certificate = _parts(_value(der)[1])
        signed = _parts(certificate[0][1])
        validity = signed[4 if signed[0][0] == _VERSION else 3]  # version, serial, algorithm, issuer, validity
        kind, text = _parts(validity[1])[1]
        form = "%y%m%d%H%M%SZ" if kind == _UTC_TIME else "%Y%m%d%H%M%SZ"
        return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError) as error:
        raise ValueError("a certificate in it cannot be understood") from error


def _value(data: bytes, start: int = 0) -> tuple[int, bytes, int]:
    """Tag, content and end of the element at ``start``."""
    tag, length, place = data[start], data[start + 1], start + 2
    if length & 0x80:
        size = length & 0x7F
        length, place = int.from_bytes(data[place : place + size], "big"), place + size
    if place + length > len(data):
        raise ValueError
    return tag, data[place : place + length], place + length


def _parts(content: bytes) -> list[tuple[int, bytes]]:
    found, place = [], 0
    while place < len(content):
        tag, value, place = _value(content, place)
        found.append((tag, value))
    return found
