"""The listening process: receives, decides when a study is complete, and frees what dead processes held."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom_node import logs
from dicom_node.app.common import check_models, live_routes, open_database, open_files, routes_of
from dicom_node.choices import pixel_options
from dicom_node.errors import StorageError
from dicom_node.routing import PRIORITY
from dicom_node.routing.live import LiveRoutes
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import InstanceRow
from dicom_node.storage.jobs import release_dead
from dicom_node.storage.owner import owner_alive
from dicom_node.study_facts import study_facts
from dicom_node.supervisor import TICK_S, children, stop_on_signal

if TYPE_CHECKING:
    from dicom_node.ingest.assembly import Assembler, Plan
    from dicom_node.ingest.listener import Listener
    from dicom_node.storage.studies import StudyRow

_LOOK_FOR_DEAD_S: Final = 3.0
_log = structlog.get_logger()


def serve(file: Path) -> int:
    """Run the node until SIGTERM or SIGINT; returns the exit status. Raises SettingsError, InferenceError, StorageError."""
    settings = load_settings(file)
    logs.configure(settings.log.level, settings.log.form)
    routes_of(settings)
    check_models(settings)
    pixel_options(settings)
    db, files = open_database(settings), open_files(settings)
    routes = live_routes(settings, db)
    clear_after_crash(db, files)
    stop = stop_on_signal()
    listener = _listener(settings, db, files)
    try:
        with children(file, stop):
            _log.info("listening", ae_title=settings.listener.ae_title, host=settings.listener.host, port=listener.port)
            _assemble_until(stop, _assembler(settings, db, files, routes), db)
            _log.info("stopping")
            listener.stop()
    finally:
        db.close()
    return 0


def _listener(settings: Settings, db: Database, files: FileStore) -> Listener:
    from dicom_node.ingest.configured import listener_settings
    from dicom_node.ingest.listener import Listener

    if not settings.listener.allowed and not settings.listener.allow_any:
        _log.warning("nobody may send: `listener.allowed` is empty, so every association will be rejected")
    listener = Listener(listener_settings(settings), db, files)
    listener.start()
    return listener


def _assembler(settings: Settings, db: Database, files: FileStore, routes: LiveRoutes) -> Assembler:
    from dicom_node.completion import completeness
    from dicom_node.ingest.assembly import Assembler, Plan

    def plan(_study: StudyRow, instances: Sequence[InstanceRow]) -> Plan:
        route = routes.current().match(study_facts(instances, datetime.now().astimezone(), files.path))
        payload = {"route": route.name, "documents": list(route.documents)}
        return Plan(route.reading, PRIORITY[route.priority], route.destinations, payload)

    return Assembler(db, completeness(settings, db, files), plan)


def _assemble_until(stop: threading.Event, assembler: Assembler, db: Database) -> None:
    """Make jobs of complete studies, and free the leases of processes that died."""
    next_look = 0.0
    while not stop.is_set():
        try:
            assembler.settle(time.time())
            if time.monotonic() >= next_look:
                release_dead(db, owner_alive)
                next_look = time.monotonic() + _LOOK_FOR_DEAD_S
        except StorageError as error:
            _log.error("study assembly waits for the database", error=str(error))
        stop.wait(TICK_S)


def clear_after_crash(db: Database, files: FileStore) -> None:
    partial_files = files.clean_spool()
    leases = release_dead(db, owner_alive)
    if partial_files or leases:
        _log.warning("the last run ended abruptly: removed partial files and freed jobs", count=partial_files + leases)
