"""`wetread send`: files and folders to a node or PACS by C-STORE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track

from dicom_node.delivery.destinations import dicom_peer
from dicom_node.errors import SettingsError
from dicom_node.remote.dimse import DicomPeer
from dicom_node.remote.sending import Sent, send_files
from dicom_node.settings import DicomDestination, load_settings

_ADDRESS = re.compile(r"(?P<ae>[^@\\]{1,16})@(?P<host>[^\s@]+):(?P<port>\d{1,5})")


def run(paths: list[Path], to: str, aet: str, config: Path | None) -> int:
    """Send; print what was refused. Returns 0 when every file was accepted. Raises SettingsError, RemoteError."""
    peer = peer_of(to, aet, config)
    files = list(_files(paths))
    console = Console(stderr=True)
    outcomes: list[Sent] = []
    for outcome in track(send_files(peer, files), f"to {peer}", total=len(files), console=console, transient=True):
        outcomes.append(outcome)
        if not outcome.accepted:
            status = f"0x{outcome.status:04X} " if outcome.status is not None else ""
            console.print(f"not accepted: {outcome.path}: {status}{outcome.reason}", highlight=False, markup=False)
    accepted = sum(outcome.accepted for outcome in outcomes)
    console.print(f"{accepted} of {len(files)} files accepted by {peer}", highlight=False)
    return 0 if accepted == len(files) else 1


def peer_of(to: str, aet: str, config: Path | None) -> DicomPeer:
    """The peer that ``--to`` means. Raises SettingsError saying what is allowed."""
    match = _ADDRESS.fullmatch(to)
    if match and int(match["port"]) <= 65535:
        return DicomPeer(match["host"].strip("[]"), int(match["port"]), match["ae"], aet)
    if config is None:
        raise SettingsError(f"--to {to!r}: write AETITLE@HOST:PORT, or a destination's name together with --config")
    settings = load_settings(config)
    destinations = settings.destinations
    found = destinations.get(to)
    if not isinstance(found, DicomDestination):
        names = ", ".join(name for name, d in destinations.items() if isinstance(d, DicomDestination)) or "none"
        raise SettingsError(f"--to {to!r}: not a dicom destination of {config}; there are: {names}")
    return dicom_peer(settings, found)


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            yield path
        else:
            raise SettingsError(f"{path}: no such file or folder")
