"""The process that serves pages, health and metrics."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom_node import logs, presence
from dicom_node.app.common import PATIENCE_S, names_of, open_database, open_files, routes_of, traced
from dicom_node.errors import ListenError, SettingsError
from dicom_node.routing.live import LiveRoutes
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.supervisor import TICK_S, stop_on_signal

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

    from dicom_node.web.parts import Parts

_GRACE_S: Final = 5
_log = structlog.get_logger()


def web(file: Path, parent: int) -> int:
    """Serve pages until told to stop, or until process ``parent`` (0: none) is gone.

    Raises SettingsError, ListenError, StorageError.
    """
    settings = load_settings(file)
    logs.configure(settings.log.level, settings.log.form)
    stop = stop_on_signal(parent)
    if settings.web.users_file is not None:
        _check_users(settings)
    listening = _bind(settings)
    db = open_database(settings, PATIENCE_S)
    try:
        with presence.keep(db, "web"), traced(settings, "web"):
            _serve(settings, db, listening, stop)
    finally:
        listening.close()
        db.close()
    return 0


def _check_users(settings: Settings) -> None:
    from dicom_node.web.accounts import read_accounts

    if settings.web.users_file is not None:
        read_accounts(settings.path(settings.web.users_file))


def _bind(settings: Settings) -> socket.socket:
    wished = settings.web
    family = socket.AF_INET6 if ":" in wished.host else socket.AF_INET
    try:
        return socket.create_server((wished.host, wished.port), family=family, backlog=128)
    except OSError as error:
        raise ListenError(f"web: cannot listen on port {wished.port} of {wished.host} ({error.strerror}); see `web`") from error


def _serve(settings: Settings, db: Database, listening: socket.socket, stop: threading.Event) -> None:
    from dicom_node.web.accounts import AccountsFile
    from dicom_node.web.app import build
    from dicom_node.web.parts import Parts

    routes_file = settings.path(settings.routes) if settings.routes is not None else None
    routes = LiveRoutes(routes_of(settings), routes_file, names_of(settings))
    users = settings.web.users_file
    accounts = AccountsFile(settings.path(users)) if users is not None else None
    parts = Parts(settings, db, open_files(settings), routes.current, names_of(settings), accounts)
    with _dicomweb(parts) as dicomweb:
        _run(settings, build(parts, dicomweb), listening, stop)


@contextmanager
def _dicomweb(parts: Parts) -> Iterator[APIRouter | None]:
    """None where it is off. Pictures are made in decoder processes, which end with the body."""
    if not parts.settings.web.dicomweb:
        yield None
        return
    from dicom_node.choices import pixel_options
    from dicom_node.pixels.decoders import Decoders
    from dicom_node.web import dicomweb

    with Decoders(pixel_options(parts.settings).limits) as decoders:
        yield dicomweb.router(parts, decoders)


def _run(settings: Settings, pages: FastAPI, listening: socket.socket, stop: threading.Event) -> None:
    import uvicorn

    from dicom_node.web.prompt import PromptProtocol

    config = uvicorn.Config(
        pages, http=PromptProtocol, log_config=None, access_log=False, lifespan="off", server_header=False, proxy_headers=False,
        timeout_keep_alive=15, timeout_graceful_shutdown=_GRACE_S, h11_max_incomplete_event_size=64 << 10,
        limit_concurrency=256,
    )  # fmt: skip
    config.load()
    config.ssl = _tls(settings)
    port, mode = listening.getsockname()[1], "https" if config.ssl else "http"
    _log.info("serving pages", host=settings.web.host, port=port, mode=mode)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), name="web")  # there uvicorn leaves our signals alone
    thread.start()
    while thread.is_alive() and not stop.wait(TICK_S):
        pass
    server.should_exit = True
    thread.join()
    if not stop.is_set():
        raise ListenError("the pages have stopped being served")


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 and 1.3 by BCP 195 (RFC 9325). Raises SettingsError."""
    if settings.web.tls is None:
        return None
    from dicom_node.ingest.tls import TlsFiles, server_context

    files = settings.web.tls
    try:
        return server_context(TlsFiles(settings.path(files.certificate_file), settings.path(files.key_file)))
    except SettingsError as error:
        raise SettingsError(f"key 'web.tls': {error}") from error
