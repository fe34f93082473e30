"""`wetread check` for the site: clock, ports, names, secrets, certificates, retention, audit repository, archives."""

from __future__ import annotations

import ctypes
import os
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import BaseModel

from dicom_node import app
from dicom_node.archives import address_of
from dicom_node.audit.transport import Stream, transport_of
from dicom_node.certificates import expiries
from dicom_node.check_item import PEER_LIMIT_S, Item, State, nearest_existing
from dicom_node.completion import asker
from dicom_node.errors import NodeError, PeerRefused, PeerUnavailable
from dicom_node.remote.dimse import echo
from dicom_node.remote.tls import TlsFiles, client_context
from dicom_node.retention_settings import parsed
from dicom_node.settings import DicomDestination, Settings
from dicom_node.storage.audit import backlog
from dicom_node.storage.database import Database

_SECRETS: Final = frozenset(
    {
        "token_file", "basic_file", "secret_file", "options_file", "key_file", "passcodes_file", "users_file", "headers_file",
        "database_password_file",
    }
)  # fmt: skip
_CERTIFICATES: Final = frozenset({"certificate_file", "ca_file"})
_SOON_S: Final = 30 * 86400.0
_OFFSET_S: Final = 2.0  # ITI-1, Consistent Time, wants a median error under one second; HTTP's Date has whole seconds
_UNSYNCHRONISED: Final = 5  # adjtimex(2): TIME_ERROR
_DAY_S: Final = 86400.0


def clock_offset(settings: Settings) -> Iterator[Item]:
    """Against the clocks of the web peers and of the database; where there is none, the kernel says if it follows NTP."""
    offsets = dict(_peer_offsets(settings))
    for name, offset in offsets.items():
        if abs(offset) > _OFFSET_S:
            text = f"{name} is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} this machine; one of them needs NTP"
            yield Item("clock", State.WARNING, text)
    if offsets and all(abs(offset) <= _OFFSET_S for offset in offsets.values()):
        yield Item("clock", State.OK, f"agrees with {', '.join(offsets)} within {_OFFSET_S:.0f} s")
    if not offsets and not synchronised():
        yield Item(
            "clock", State.WARNING, "the kernel's clock is not synchronised; run an NTP client (chrony, systemd-timesyncd)"
        )


def synchronised() -> bool:
    """Whether the kernel's clock is kept by NTP (adjtimex, read only); True where the system does not tell."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))) != _UNSYNCHRONISED
    except (AttributeError, OSError):
        return True


def _peer_offsets(settings: Settings) -> Iterator[tuple[str, float]]:
    """Seconds that each peer is ahead."""
    for name, wished in settings.destinations.items():
        url = getattr(wished, "url", "")
        if url.startswith(("http:", "https:")):
            date = _http_date(settings, url, getattr(wished, "tls", None))
            if date is not None:
                yield name, date - time.time()
    if settings.database_url.startswith("postgresql"):
        try:
            with closing(Database.open(settings.database_url, password=settings.database_password(), busy_timeout_s=5)) as db:
                yield "the database", db.now() - time.time()
        except NodeError:
            return  # the item of the database says why


def _http_date(settings: Settings, url: str, tls: Any) -> float | None:
    """RFC 9110 section 6.6.1; whatever the answer is, it has a Date."""
    places = [getattr(tls, name, None) for name in ("ca_file", "certificate_file", "key_file")]
    try:
        context = client_context(url, TlsFiles(*(None if one is None else settings.path(one) for one in places)))
        answer = httpx.head(url, timeout=PEER_LIMIT_S / 2, verify=context)
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (httpx.HTTPError, PeerUnavailable, KeyError, ValueError, TypeError):
        return None


def disk_writes(folder: Path) -> Item | None:
    """A file written and fsynced, then removed; None where the folder is still to be made."""
    if not folder.is_dir():
        return None
    probe = folder / f".check-{os.getpid()}"
    began = time.monotonic()
    try:
        with probe.open("wb") as file:
            file.write(b"wetread check")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Item("disk", State.FAILED, f"{folder}: a file cannot be written and synced ({error.strerror})")
    finally:
        with suppress(OSError):  # of a disk that has become read-only not even what is not there can be removed
            probe.unlink()
    took = 1000 * (time.monotonic() - began)
    slow = "; acknowledging an image takes at least as long" if took > 100 else ""
    return Item("disk", State.WARNING if slow else State.OK, f"{folder}: fsync takes {took:.0f} ms{slow}")


def ports(settings: Settings) -> Iterator[Item]:
    """Those that the node listens on, each by one service only."""
    places = {"listener": (settings.listener.host, settings.listener.port)}
    if any(getattr(one, "commitment", False) for one in settings.destinations.values()):
        places["commitment"] = (settings.commitment.host, settings.commitment.port)
    if settings.web.enabled:
        places["web"] = (settings.web.host, settings.web.port)
    running = _held(*places["listener"])
    for name, (host, port) in places.items():
        others = [other for other, (_, its) in places.items() if other != name and its == port and port]
        if others:
            yield Item("ports", State.FAILED, f"port {port} is that of {name} and of {', '.join(others)}; give each its own")
        elif name != "listener" and not running and _held(host, port):
            yield Item(
                "ports", State.FAILED, f"{host} port {port} of `{name}` is held by another program; change it, or stop that"
            )


def _held(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def titles(settings: Settings) -> Iterator[Item]:
    """AE titles that stand for two things."""
    ours = settings.listener
    for name, one in settings.destinations.items():
        if isinstance(one, DicomDestination) and (one.ae_title, one.port) == (ours.ae_title, ours.port) and _local(one.host):
            yield Item("AE titles", State.FAILED, f"destination {name} is this node itself: results would be read as studies")
    seen: dict[tuple[str, str | None], int] = {}
    for peer in ours.allowed:
        seen[(peer.ae_title, peer.called_ae)] = seen.get((peer.ae_title, peer.called_ae), 0) + 1
        if peer.ae_title == ours.ae_title:
            text = f"{peer.ae_title} is our own title and that of an allowed peer; a peer of its own title can be told apart"
            yield Item("AE titles", State.WARNING, text)
    for (title, _), count in seen.items():
        if count > 1:
            yield Item(
                "AE titles", State.WARNING, f"{title} stands {count} times under `listener.allowed`; any of them lets it in"
            )


def _local(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1", socket.gethostname())


def secrets(settings: Settings) -> Iterator[Item]:
    """Files with secrets: there, readable for the node and for nobody else."""
    count = 0
    for key, path in _files(settings, settings, _SECRETS):
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        except OSError as error:
            yield Item("secrets", State.FAILED, f"{path} of `{key}` cannot be read ({error.strerror})")
            continue
        if mode & 0o077:
            yield Item("secrets", State.WARNING, f"{path} of `{key}`: others may read it ({mode:o}); run `chmod 600` on it")
        else:
            count += 1
    if count:
        yield Item("secrets", State.OK, f"{count} files can be read by their owner only")


def certificates(settings: Settings) -> Iterator[Item]:
    """Ours and those we trust: when they end."""
    now = time.time()
    for key, path in _files(settings, settings, _CERTIFICATES):
        try:
            first = min(expiries(path))
        except (OSError, ValueError, ssl.SSLError) as error:
            yield Item(
                "certificates", State.FAILED, f"{path} of `{key}` cannot be used ({getattr(error, 'strerror', '') or error})"
            )
            continue
        day, left = time.strftime("%Y-%m-%d", time.gmtime(first)), first - now
        state = State.FAILED if left <= 0 else State.WARNING if left < _SOON_S else State.OK
        said = f"ended on {day}; renew it" if left <= 0 else f"ends on {day}{'; renew it' if left < _SOON_S else ''}"
        yield Item("certificates", state, f"{path} of `{key}` {said}")


def _files(settings: Settings, section: Any, names: frozenset[str], at: str = "") -> Iterator[tuple[str, Path]]:
    """Every file that a setting of one of the names gives, with its key."""
    if isinstance(section, BaseModel):
        parts = [(name, getattr(section, name)) for name in type(section).model_fields]
    elif isinstance(section, dict):
        parts = list(section.items())
    elif isinstance(section, tuple):
        parts = [(str(number), one) for number, one in enumerate(section)]
    else:
        return
    for name, value in parts:
        if name in names and isinstance(value, Path):
            yield f"{at}{name}", settings.path(value)
        else:
            yield from _files(settings, value, names, f"{at}{name}.")


def retention(settings: Settings) -> Item:
    """Will the node run for a year without filling its disk, and without removing too early?"""
    rules, high = settings.retention, parsed(settings.retention.high)
    if not rules.images_days and high is None:
        return Item("retention", State.WARNING, "images are kept for ever and there is no watermark: the disk will fill")
    disk = os.statvfs(nearest_existing(settings.data_folder))
    total = disk.f_blocks * disk.f_frsize
    free_at_high = total * (1 - high[0] / 100) if high and high[1] == "%" else total - high[0] * 1e9 if high else total
    if free_at_high < settings.listener.watermark_mb * 2**20:
        text = (
            f"at the high watermark {rules.high} less than `listener.watermark_mb` is free: images are refused before any goes"
        )
        return Item("retention", State.WARNING, text)
    kept = "for ever" if not rules.images_days else f"{rules.images_days:g} days"
    marks = f"; watermarks {rules.high} and {rules.low}" if high else ""
    return Item("retention", State.OK, f"images are kept {kept} after the last one of their study came{marks}")


def audit(settings: Settings) -> Iterator[Item]:
    """The repository, tried; and what waits for it."""
    wished = settings.audit.repository
    if wished is None:
        return
    transport = transport_of(settings, wished)
    waiting = _waiting(settings)
    if isinstance(transport, Stream):
        try:
            transport.reach()
        except PeerUnavailable as error:
            yield Item("audit", State.FAILED, f"{error}{waiting}")
            return
    state = State.WARNING if wished.kind in ("tcp", "udp") else State.OK
    open_ = "; sent unencrypted, which ATNA does not allow: use kind tls" if state is State.WARNING else ""
    yield Item("audit", state, f"{transport.name} can be used{open_}{waiting}")


def _waiting(settings: Settings) -> str:
    if not settings.database and not (settings.data_folder / "wetread.sqlite").exists():
        return ""
    try:
        with closing(app.open_database(settings)) as db, db.read() as conn:
            count, since = backlog(conn)
    except NodeError:
        return ""
    return f"; {count} messages wait, the oldest for {(time.time() - since) / 3600:.1f} h" if since is not None else ""


def archives(settings: Settings) -> Iterator[Item]:
    """Each archive of `peers`, asked for a study that nobody has."""
    for name, wished in settings.peers.items():
        asked = settings.model_copy(update={"study": settings.study.model_copy(update={"archive": wished})})
        ask = asker(asked)
        try:
            count = None if ask is None else ask("2.25.1")
            yield Item(f"peer {name}", State.OK, f"asked for a study it cannot have, it counts {count}")
        except NodeError as error:
            yield Item(f"peer {name}", State.FAILED, str(error))


def addresses(settings: Settings) -> Iterator[Item]:
    """Each of `query.addresses`, called by C-ECHO; one that answers, but knows no C-ECHO, is there."""
    for title in settings.query.addresses:
        peer = address_of(settings, title, settings.listener.ae_title)
        assert peer is not None, title
        try:
            echo(replace(peer, timeout_s=min(peer.timeout_s, PEER_LIMIT_S)))
            yield Item(f"address {title}", State.OK, f"{peer} answers C-ECHO")
        except NodeError as error:
            state = State.WARNING if isinstance(error, PeerRefused) else State.FAILED
            yield Item(f"address {title}", state, str(error))
