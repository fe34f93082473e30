"""Object stores and other file systems that fsspec reaches, as a destination: each document an object."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import PeerUnavailable
from dicom_node.remote import folder

# Stores that have no folders; to make one there would make a bucket, and a mistyped name must not do that
_BUCKETED: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"})


@dataclass(frozen=True, slots=True)
class Bucket:
    """``url``: such as s3://bucket/prefix. ``options_file``: JSON with what the file system is opened with, its secrets too."""

    url: str
    options_file: Path | None = None
    timeout_s: float = 60

    def __str__(self) -> str:
        return self.url


def put(bucket: Bucket, name: str, content: bytes) -> None:
    """Write ``content`` as ``name`` below the URL; the same name again replaces it with the same bytes.

    Raises PeerUnavailable: what a store refuses (login, place, quota) its operator can put right.
    """
    system, base = _opened(bucket)
    if "file" in system.protocol:
        folder.put(Path(base), name, content)  # durably, and whole or not at all, which fsspec does not promise of a disk
        return
    path = f"{base}/{name}"
    try:
        if not _BUCKETED.intersection([system.protocol] if isinstance(system.protocol, str) else system.protocol):
            system.makedirs(base, exist_ok=True)
        system.pipe_file(path, content)
        held = system.info(path)["size"]
    except Exception as error:
        raise PeerUnavailable(f"{bucket}: {_why(error)}") from error
    if held != len(content):
        raise PeerUnavailable(f"{bucket}: holds {held} of {len(content)} bytes of {name}")


def reach(bucket: Bucket) -> None:
    """List what lies below the URL. Raises PeerUnavailable."""
    system, base = _opened(bucket)
    try:
        system.invalidate_cache()
        if system.exists(base):
            system.ls(base, detail=False)
    except Exception as error:
        raise PeerUnavailable(f"{bucket}: {_why(error)}") from error


def _opened(bucket: Bucket) -> tuple[Any, str]:
    import fsspec

    try:
        system, base = fsspec.core.url_to_fs(bucket.url, **_options(bucket))
    except ImportError as error:
        raise PeerUnavailable(f"{bucket}: the Python package for this kind of store is not installed ({error.name})") from error
    except PeerUnavailable:
        raise
    except Exception as error:
        raise PeerUnavailable(f"{bucket}: {_why(error)}") from error
    return system, base.rstrip("/")


def _options(bucket: Bucket) -> dict[str, Any]:
    if bucket.options_file is None:
        return {}
    try:
        options = json.loads(bucket.options_file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or "it is not JSON"
        raise PeerUnavailable(f"{bucket}: options file {bucket.options_file} cannot be read ({why})") from error
    if not isinstance(options, dict):
        raise PeerUnavailable(f"{bucket}: options file {bucket.options_file} must hold a JSON object")
    return options


def _why(error: Exception) -> str:
    """The kind of error; its text may quote a key or a signed address."""
    return getattr(error, "strerror", "") or type(error).__name__
