"""What every process of the node opens: database, files, routes; and the identity of this installation."""

from __future__ import annotations

import errno
import os
import time
import uuid
from pathlib import Path

from dicom_node.choices import engine_options
from dicom_node.errors import SettingsError
from dicom_node.routing import Names, Routes, default_routes, load_routes
from dicom_node.routing.live import LiveRoutes
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.files import FileStore
from inference.options import check_options
from reporting.context import DocumentKind


def routes_of(settings: Settings, file: Path | None = None) -> Routes:
    """The routes, or those of another ``file``, validated against the settings. Raises SettingsError."""
    names = _names(settings)
    if file is None and settings.routes is not None:
        file = settings.path(settings.routes)
    return default_routes(names) if file is None else load_routes(file, names)


def live_routes(settings: Settings, db: Database) -> LiveRoutes:
    """The same, following their file; a mistake made later becomes an alert. Raises SettingsError."""

    def tell(text: str) -> None:
        with db.write() as connection:
            record_event(connection, NewEvent(EventKind.FAILURE, text, Severity.ALERT), time.time())

    file = settings.path(settings.routes) if settings.routes is not None else None
    return LiveRoutes(routes_of(settings), file, _names(settings), tell)


def _names(settings: Settings) -> Names:
    """What routes may name. Raises SettingsError."""
    if not settings.readings:
        raise SettingsError("key 'readings' is empty: name at least one reading")
    kinds = {name: frozenset(map(DocumentKind, one.documents)) for name, one in settings.destinations.items()}
    return Names(frozenset(settings.readings), kinds)


def check_models(settings: Settings) -> None:
    """Open every bundle and catalogue the settings name, without loading a model. Raises InferenceError."""
    for reading in settings.readings:
        check_options(engine_options(settings, reading))


def open_database(settings: Settings) -> Database:
    """The node's database, created and migrated where needed. Raises SettingsError, StorageError."""
    _made_data_folder(settings)
    return Database.open(settings.database_url)


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
    part = file.with_suffix(f".{os.getpid()}.part")
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
