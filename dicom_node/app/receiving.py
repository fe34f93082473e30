"""What each of several receiving processes opens; it is pickled and run there (`dicom_node.ingest.receiving`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from dicom_node import logs
from dicom_node.app.common import PATIENCE_S, open_database, open_files
from dicom_node.errors import StorageError
from dicom_node.ingest.channel import Opener
from dicom_node.measures import OWN
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.measures import add_measures

_FLUSH_S: Final = 5.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stores:
    db: Database
    files: FileStore


def plain(settings: Settings) -> Settings:
    """The same settings, fit for pickling: those that were read from a file are of a class made for that file."""
    return Settings.model_construct(**{name: getattr(settings, name) for name in Settings.model_fields})


def opener(settings: Settings) -> Opener:
    return partial(open_stores, plain(settings))


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Database and files of a receiving process, with its log; what it counts goes to the database while they are open."""
    logs.configure(settings.log.level, settings.log.form)
    stores = Stores(open_database(settings, PATIENCE_S), open_files(settings))
    over = threading.Event()
    flusher = threading.Thread(target=_flush_until, args=(stores.db, over), name="measures")
    flusher.start()
    try:
        yield stores
    finally:
        over.set()
        flusher.join()
        stores.db.close()


def _flush_until(db: Database, over: threading.Event) -> None:
    last = False
    while not last:
        last = over.wait(_FLUSH_S)
        deltas = OWN.take()
        try:
            if deltas:
                with db.write() as conn:
                    add_measures(conn, deltas)
        except StorageError as error:
            OWN.give_back(deltas)
            _log.warning("measures wait for the database", error=str(error))
