"""TLS for the peers that we call: 1.2 or newer, with the peer's name checked (BCP 195)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import PeerUnavailable, SettingsError

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"  # of TLS 1.2 (RFC 9325 section 4.2); those of TLS 1.3 are all fit


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """``ca``: whom to trust instead of the system's authorities. ``certificate`` and ``key``: ours, for mutual TLS."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def client_context(peer: object, files: TlsFiles) -> ssl.SSLContext:
    """How to call ``peer``. The files are read anew, so that a renewed certificate is used without a restart.

    Raises PeerUnavailable naming the peer where the files cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        if files.certificate:
            context.load_cert_chain(files.certificate, files.key)
    except (OSError, ValueError) as error:
        raise PeerUnavailable(f"{peer}: its TLS files cannot be used ({tls_fault(error)}); check its `tls`") from error
    return context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """How peers call us back; with ``ca`` they must show a certificate that it has signed. Raises SettingsError."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.load_cert_chain(files.certificate or "", files.key)
        if files.ca:
            context.load_verify_locations(files.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise SettingsError(f"the files of `commitment.tls` cannot be used ({tls_fault(error)})") from error
    return context


def tls_fault(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or type(error).__name__})"
    return str(getattr(error, "strerror", "") or type(error).__name__)
