"""What every process of the node opens: database, files, routes; and the identity of this installation."""

from __future__ import annotations

import errno
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from dicom_node import tracing
from dicom_node.choices import engine_options
from dicom_node.errors import SettingsError, StorageBusy, StorageError
from dicom_node.routing import Names, Routes, default_routes, load_routes
from dicom_node.routing.live import LiveRoutes
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.owner import current_owner, owner_alive, owner_alive_here
from inference.errors import InferenceError
from inference.options import check_options
from inference.triage.catalogue import load_catalogue
from reporting.context import DocumentKind

PATIENCE_S: Final = 60.0  # of a process of the node that starts, with a database that cannot be reached
_AGAIN_S: Final = 2.0
_log = structlog.get_logger()


def routes_of(settings: Settings, file: Path | None = None) -> Routes:
    """The routes, or those of another ``file``, validated against the settings. Raises SettingsError."""
    names = names_of(settings)
    if file is None and settings.routes is not None:
        file = settings.path(settings.routes)
    return default_routes(names) if file is None else load_routes(file, names)


def live_routes(settings: Settings, db: Database) -> LiveRoutes:
    """The same, following their file; a mistake made later becomes an alert. Raises SettingsError."""

    def tell(text: str) -> None:  # beside the caller, who may be in a transaction that this one has to wait for
        threading.Thread(target=_alert, args=(db, text), name="routes-alert").start()

    file = settings.path(settings.routes) if settings.routes is not None else None
    return LiveRoutes(routes_of(settings), file, names_of(settings), tell)


def _alert(db: Database, text: str) -> None:
    try:
        with db.write() as connection:
            record_event(connection, NewEvent(EventKind.FAILURE, text, Severity.ALERT), db.now())
    except StorageError as error:
        _log.error("an alert could not be recorded", error=str(error))


def names_of(settings: Settings) -> Names:
    """What routes may name. Raises SettingsError."""
    if not settings.readings:
        raise SettingsError("key 'readings' is empty: name at least one reading")
    kinds = {name: frozenset(map(DocumentKind, one.documents)) for name, one in settings.destinations.items()}
    return Names(frozenset(settings.readings), kinds, settings.study.archive is not None, _findings(settings))


def _findings(settings: Settings) -> frozenset[str] | None:
    """None where a catalogue cannot be read, which `wetread check` and the worker tell of."""
    try:
        catalogues = [load_catalogue(engine_options(settings, name).catalogue) for name in settings.readings]
    except (InferenceError, SettingsError):
        return None
    return frozenset(key for one in catalogues for key in one.keys)


@contextmanager
def traced(settings: Settings, role: str) -> Iterator[None]:
    """Trace while the body runs, where the settings name a collector. Raises SettingsError."""
    wished = settings.tracing
    if not wished.endpoint:
        yield
        return
    headers = _headers(settings.path(wished.headers_file)) if wished.headers_file is not None else {}
    key = installation_uid(settings).encode()
    tracing.configure_otlp(wished.endpoint, headers, wished.timeout_s, key, role)
    try:
        yield
    finally:
        tracing.stop()


def _headers(file: Path) -> dict[str, str]:
    """Lines of ``name: value``; never told. Raises SettingsError."""
    try:
        lines = [line.partition(":") for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"key 'tracing.headers_file': {file} cannot be read ({type(error).__name__})") from None
    if not all(name.strip() and colon for name, colon, _ in lines):
        raise SettingsError(f"{file}: write one `name: value` a line (key 'tracing.headers_file')")
    return {name.strip(): value.strip() for name, _, value in lines}


def check_models(settings: Settings) -> None:
    """Open every bundle and catalogue the settings name, without loading a model. Raises InferenceError."""
    for reading in settings.readings:
        check_options(engine_options(settings, reading))


def open_database(settings: Settings, patience_s: float = 0) -> Database:
    """The node's database, created and migrated where needed. Raises SettingsError, StorageError.

    One that cannot be reached, as when all machines of a site start at once, is tried again for ``patience_s`` seconds.
    """
    _made_data_folder(settings)
    password, end = settings.database_password(), time.monotonic() + patience_s
    while True:
        try:
            return Database.open(settings.database_url, password=password)
        except StorageBusy as error:
            if time.monotonic() >= end:
                raise
            _log.warning("the database is busy; waiting", error=str(error))
            time.sleep(_AGAIN_S)


def who_lives(db: Database) -> Callable[[str], bool]:
    """Tells of an owner whether its process may still live; false only where it is certain that it does not."""
    return owner_alive_here if db.one_machine else owner_alive


def open_files(settings: Settings) -> FileStore:
    """The node's file store. Raises SettingsError where its folder cannot be made or written, StorageError."""
    return FileStore(_made_data_folder(settings))


def _made_data_folder(settings: Settings) -> Path:
    """Made where it is missing, closed to other users: it holds patients' images."""
    folder = settings.data_folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable for this user")
    except OSError as error:
        raise SettingsError(
            f"key 'data': {folder} cannot be used ({error.strerror}); name a folder this user may write"
        ) from error
    return folder


def installation_uid(settings: Settings) -> str:
    """The device UID of this installation, made once and kept beside the data (PS3.5 B.2, UUID-derived)."""
    file = _made_data_folder(settings) / "device.uid"
    part = file.with_suffix(f".{current_owner().replace(':', '_')}.part")
    if not file.exists():
        with part.open("w", encoding="ascii") as out:
            out.write(f"2.25.{uuid.uuid4().int}\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(part, file)  # of two processes that start at once, one wins and both read the same
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return file.read_text("ascii").strip()
