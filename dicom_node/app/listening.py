"""The listening process: receives, decides when a study is complete, and frees what dead processes held."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom_node import logs, measures, presence
from dicom_node.app.common import PATIENCE_S, check_models, live_routes, open_database, open_files, routes_of, traced, who_lives
from dicom_node.app.housekeeping import audited, begin_trail
from dicom_node.app.pulling import ranked
from dicom_node.app.querying import service_maker
from dicom_node.app.receiving import opener, plain
from dicom_node.choices import pixel_options
from dicom_node.errors import StorageError
from dicom_node.routing import PRIORITY
from dicom_node.routing.live import LiveRoutes
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import InstanceRow
from dicom_node.storage.jobs import release_dead
from dicom_node.storage.nodes import list_nodes, remove
from dicom_node.study_facts import study_facts
from dicom_node.supervisor import PARTS, TICK_S, children, stop_on_signal

if TYPE_CHECKING:
    from dicom_node.ingest.assembly import Assembler, Plan
    from dicom_node.ingest.listener import Listener
    from dicom_node.ingest.processes import Listeners
    from dicom_node.storage.studies import StudyRow

_LOOK_FOR_DEAD_S: Final = 3.0
_IDLE_TICK_S: Final = 0.5
_log = structlog.get_logger()


def serve(file: Path) -> int:
    """Run the node until SIGTERM or SIGINT; returns the exit status. Raises SettingsError, InferenceError, StorageError."""
    settings = _read(file)
    check_models(settings)
    pixel_options(settings)
    stop = stop_on_signal()
    parts = (*PARTS, "web") if settings.web.enabled else PARTS
    return _listen(settings, stop, partial(children, file, stop, parts))


def listen(file: Path, parent: int) -> int:
    """Only receive, and say when a study is complete; other processes read and deliver. Raises as ``serve``."""
    settings = _read(file)
    return _listen(settings, stop_on_signal(parent), nullcontext)


def _read(file: Path) -> Settings:
    settings = load_settings(file)
    logs.configure(settings.log.level, settings.log.form)
    routes_of(settings)
    return settings


def _listen(settings: Settings, stop: threading.Event, beside: Callable[[], AbstractContextManager[None]]) -> int:
    """``beside`` makes what runs as long as the listener does."""
    db, files = open_database(settings, PATIENCE_S), open_files(settings)
    routes = live_routes(settings, db)
    clear_after_crash(db, files)
    begin_trail(settings, db)
    listener = _listener(settings, db, files)
    try:
        with (
            beside(),
            presence.keep(db, "listen", look=lambda: _tell_open(listener)),
            traced(settings, "listen"),
            audited(settings, db, files),
        ):
            _log.info("listening", ae_title=settings.listener.ae_title, host=settings.listener.host, port=listener.port)
            _assemble_until(stop, _assembler(settings, db, files, routes), db)
            _log.info("stopping")
            listener.stop()
    finally:
        db.close()
    return 0


def _tell_open(listener: Listener | Listeners) -> None:
    measures.gauge(measures.ASSOCIATIONS_OPEN, listener.associations)


def _listener(settings: Settings, db: Database, files: FileStore) -> Listener | Listeners:
    from dicom_node.ingest.configured import listener_settings
    from dicom_node.ingest.listener import Listener

    if not settings.listener.allowed and not settings.listener.allow_any:
        _log.warning("nobody may send: `listener.allowed` is empty, so every association will be rejected")
    listener: Listener | Listeners
    if settings.listener.processes > 1:
        listener = _listeners(plain(settings), db, files)
    else:
        listener = Listener(listener_settings(settings), db, files, services=service_maker(settings))
    listener.start()
    return listener


def _listeners(settings: Settings, db: Database, files: FileStore) -> Listeners:
    """``settings`` are fit for pickling."""
    from dicom_node.ingest.configured import listener_settings
    from dicom_node.ingest.processes import Listeners

    def clean() -> None:
        files.clean_spool(who_lives(db))

    wished = listener_settings(settings)
    return Listeners(wished, opener(settings), service_maker(settings), clean, serial_commits=db.one_machine)


def _assembler(settings: Settings, db: Database, files: FileStore, routes: LiveRoutes) -> Assembler:
    from dicom_node.completion import completeness
    from dicom_node.ingest.assembly import Assembler, Plan

    def plan(study: StudyRow, instances: Sequence[InstanceRow]) -> Plan:
        route = routes.current().match(study_facts(instances, datetime.now().astimezone(), files.path))
        payload = {"route": route.name, "documents": list(route.documents)}
        as_routed = Plan(route.reading, PRIORITY[route.priority], route.destinations, payload)
        return ranked(settings, db, study, route, as_routed)

    return Assembler(db, completeness(settings, db, files), plan)


def _assemble_until(stop: threading.Event, assembler: Assembler, db: Database) -> None:
    """Make jobs of complete studies, and free the leases of processes that died."""
    next_look = 0.0
    while not stop.is_set():
        try:
            assembler.settle(db.now())
            if time.monotonic() >= next_look:
                release_dead(db, who_lives(db))
                next_look = time.monotonic() + _LOOK_FOR_DEAD_S
        except StorageError as error:
            _log.error("study assembly waits for the database", error=str(error))
        stop.wait(TICK_S if assembler.waiting else _IDLE_TICK_S)


def clear_after_crash(db: Database, files: FileStore) -> None:
    """What processes of this machine left. What others left is freed when their leases run out."""
    partial_files = files.clean_spool(who_lives(db))
    leases = release_dead(db, who_lives(db))
    with db.write() as conn:
        for row in list_nodes(conn):
            if not who_lives(db)(row.owner):
                remove(conn, row.owner)
    if partial_files or leases:
        _log.warning("the last run ended abruptly: removed partial files and freed jobs", count=partial_files + leases)
