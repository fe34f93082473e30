"""TLS on the DICOM port: the BCP 195 secure transport connection profile (PS3.15 B.9; RFC 9325).

TLS 1.2 and 1.3, forward secrecy and authenticated encryption only. With an authority the peers must show certificates of
theirs that it has signed.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.errors import SettingsError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"  # of TLS 1.2; those of TLS 1.3 are all fit


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. ``ca``: who has signed the peers' certificates; None asks them for none."""

    certificate: Path
    key: Path
    ca: Path | None = None


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Raises SettingsError naming the file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    for file in (files.certificate, files.key, files.ca):
        if file is not None and not file.is_file():
            raise SettingsError(f"{file}: no such file, which the listener's TLS needs")
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"{files.certificate} and {files.key}: not a PEM certificate and its key") from error
    if files.ca is not None:
        try:
            context.load_verify_locations(files.ca)
        except (ssl.SSLError, OSError) as error:
            raise SettingsError(f"{files.ca}: not PEM certificates of authorities") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def names_in(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Common names of the subject and DNS names of a verified certificate, as ``ssl.getpeercert`` gives it."""
    if not certificate:
        return ()
    subject = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return (*subject, *(value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"))
