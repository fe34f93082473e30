"""Composition root: builds and connects everything from the settings, and runs the node's processes.

`serve` listens in this process and starts two more: `work` (models) and `deliver`. A worker that dies is replaced; nothing
it held is lost, because jobs are leased, not removed. Models and torch never load in the listening process.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom_node import logs
from dicom_node.choices import document_options, engine_options, pixel_options
from dicom_node.errors import SettingsError, StorageError
from dicom_node.routing import PRIORITY, Names, Routes, default_routes, load_routes
from dicom_node.routing.live import LiveRoutes
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import InstanceRow
from dicom_node.storage.job_counts import count_jobs
from dicom_node.storage.jobs import JobKind, JobState, release_dead
from dicom_node.storage.owner import current_owner, owner_alive
from dicom_node.study_facts import study_facts
from dicom_node.supervisor import TICK_S, children, stop_on_signal
from inference.options import check_options
from reporting.context import DocumentKind

if TYPE_CHECKING:
    from dicom_node.ingest.assembly import Assembler, Plan
    from dicom_node.ingest.listener import Listener
    from dicom_node.storage.studies import StudyRow
    from inference.engine import Engine

_LOOK_FOR_DEAD_S: Final = 3.0
_log = structlog.get_logger()


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


def serve(file: Path) -> int:
    """Run the node until SIGTERM or SIGINT; returns the exit status. Raises SettingsError, InferenceError, StorageError."""
    settings = load_settings(file)
    logs.configure(settings.log.level, settings.log.form)
    routes_of(settings)
    check_models(settings)
    pixel_options(settings)
    db, files = open_database(settings), open_files(settings)
    routes = live_routes(settings, db)
    _clear_after_crash(db, files)
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


def work(file: Path, parent: int) -> int:
    """Read studies until told to stop, or until process ``parent`` (0: none) is gone."""
    settings = load_settings(file)  # before torch is imported: a mistake is told at once
    logs.configure(settings.log.level, settings.log.form)
    stop = stop_on_signal(parent)
    from dicom_node.pixels.reader import PixelReader
    from dicom_node.worker import Worker, WorkerOptions
    from inference.engine import Engine

    wished = pixel_options(settings)
    engines = {name: Engine.load(engine_options(settings, name)) for name in settings.readings}
    for name, engine in engines.items():
        _log.info("engine ready", reading=name, state=engine.precision, reason=f"triage: {engine.why}")
    db = open_database(settings)
    options = WorkerOptions(
        mode=settings.mode,
        wanted={name: tuple(destination.documents) for name, destination in settings.destinations.items()},
        documents=document_options(settings),
        device_uid=installation_uid(settings),
        station_name=settings.documents.station_name,
        institution=settings.documents.institution,
        lease_seconds=settings.work.lease_seconds,
        max_attempts=settings.work.max_attempts,
        retry_seconds=settings.work.retry_seconds,
        poll_seconds=settings.work.poll_seconds,
    )
    _log.info("working", model=[f"{m.name} {m.version}" for e in engines.values() for m in e.models], mode=settings.mode)
    routes = live_routes(settings, db)
    with PixelReader(wished) as pixels:
        reader = partial(_engine, engines)
        Worker(db, open_files(settings), reader, options, current_owner("work"), routes.current, pixels).run(stop)
    db.close()
    return 0


def deliver(file: Path, parent: int) -> int:
    """Deliver documents until told to stop, or until process ``parent`` (0: none) is gone."""
    from dicom_node.delivery import destinations
    from dicom_node.delivery.deliverer import Deliverer

    settings = load_settings(file)
    logs.configure(settings.log.level, settings.log.form)
    stop = stop_on_signal(parent)
    db = open_database(settings)
    _tell_of_unserved(db, settings)
    reports = threading.Thread(target=destinations.tell_reports, args=(settings, db, stop), name="commitment-reports")
    reports.start()
    targets, policy = destinations.targets(settings, db), destinations.retry_policy(settings)
    Deliverer(db, open_files(settings), targets, policy, current_owner("deliver")).run(stop)
    reports.join()
    db.close()
    return 0


def _engine(engines: Mapping[str, Engine], reading: str) -> Engine:
    if reading not in engines:
        raise SettingsError(f"reading {reading!r} of the job is no longer in the settings; there are: {', '.join(engines)}")
    return engines[reading]


def _tell_of_unserved(db: Database, settings: Settings) -> None:
    """Deliveries that wait for a destination which the settings no longer name would wait in silence."""
    for count in count_jobs(db):
        unfinished = (JobState.QUEUED, JobState.LEASED, JobState.AWAITING)
        waiting = count.kind is JobKind.DELIVER and count.state in unfinished
        if waiting and count.queue not in settings.destinations:
            _log.error("deliveries wait for a destination the settings lack", destination=count.queue, count=count.count)


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


def _clear_after_crash(db: Database, files: FileStore) -> None:
    partial_files = files.clean_spool()
    leases = release_dead(db, owner_alive)
    if partial_files or leases:
        _log.warning("the last run ended abruptly: removed partial files and freed jobs", count=partial_files + leases)
