"""Attachments that say what they hold: size in bytes and SHA-1 of the data before base64 (R4 2.24.0.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from reporting.conformance.fhir.formats import decoded
from reporting.conformance.fhir.walk import Where, place
from reporting.context import Fault

_CLAUSE: Final = "FHIR R4 2.24.0.1 Attachment"
_SHA1: Final = 20  # bytes


def attachment_faults(value: dict[str, Any], where: Where | None) -> Iterator[Fault]:
    """Both against the data; data or hash that is no base64 is told as its form."""
    data, size, said = (value.get(name) for name in ("data", "size", "hash"))
    content = decoded(data) if isinstance(data, str) else None
    digest = decoded(said) if isinstance(said, str) else None
    if content is not None and isinstance(size, int | str) and str(size) != str(len(content)):
        yield Fault("attachment-size", _CLAUSE, f"{place(where)}: the size is not that of the data")
    if digest is None:
        return
    if len(digest) != _SHA1 or (content is not None and digest != sha1(content)):
        yield Fault("attachment-hash", _CLAUSE, f"{place(where)}: the hash is not the SHA-1 of the data")


def sha1(content: bytes) -> bytes:
    """R4 names SHA-1; it tells damage here, and protects nothing."""
    return hashlib.sha1(content, usedforsecurity=False).digest()
