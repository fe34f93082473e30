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
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom_node import logs
from dicom_node.choices import document_options, engine_options
from dicom_node.errors import SettingsError, StorageError
from dicom_node.routing import PRIORITY, Routes, StudyFacts, default_routes, load_routes
from dicom_node.settings import FolderDestination, Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import InstanceRow
from dicom_node.storage.job_counts import count_jobs
from dicom_node.storage.jobs import JobKind, JobState, release_dead
from dicom_node.storage.owner import current_owner, owner_alive
from dicom_node.supervisor import TICK_S, children, stop_on_signal
from inference.options import check_options

if TYPE_CHECKING:
    from dicom_node.delivery.deliverer import Send
    from dicom_node.ingest.assembly import Assembler, Plan
    from dicom_node.ingest.listener import Listener
    from dicom_node.remote.mllp import Hl7Peer
    from dicom_node.settings import Destination, Hl7Destination
    from dicom_node.storage.studies import StudyRow
    from inference.engine import Engine

_LOOK_FOR_DEAD_S: Final = 3.0
_log = structlog.get_logger()


def routes_of(settings: Settings) -> Routes:
    """The routes, validated against the settings. Raises SettingsError."""
    readings, destinations = set(settings.readings), set(settings.destinations)
    if not readings:
        raise SettingsError("key 'readings' is empty: name at least one reading")
    if settings.routes is None:
        return default_routes(readings, destinations)
    return load_routes(settings.path(settings.routes), readings=readings, destinations=destinations)


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
    routes = routes_of(settings)
    check_models(settings)
    db, files = open_database(settings), open_files(settings)
    _clear_after_crash(db, files)
    stop = stop_on_signal()
    listener = _listener(settings, db, files)
    try:
        with children(file, stop):
            _log.info("listening", ae_title=settings.listener.ae_title, host=settings.listener.host, port=listener.port)
            _assemble_until(stop, _assembler(settings, db, routes), db)
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
    from dicom_node.worker import Worker, WorkerOptions
    from inference.engine import Engine

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
    Worker(db, open_files(settings), partial(_engine, engines), options, current_owner("work")).run(stop)
    db.close()
    return 0


def deliver(file: Path, parent: int) -> int:
    """Deliver documents until told to stop, or until process ``parent`` (0: none) is gone."""
    from dicom_node.delivery.deliverer import Deliverer, RetryPolicy

    settings = load_settings(file)
    logs.configure(settings.log.level, settings.log.form)
    stop = stop_on_signal(parent)
    db = open_database(settings)
    wished = settings.delivery
    policy = RetryPolicy(
        wished.first_retry_s,
        wished.max_retry_s,
        wished.give_up_hours * 3600,
        wished.poll_seconds,
        lease_s=_lease_seconds(settings.destinations.values()),
    )
    _tell_of_unserved(db, settings)
    sends = {name: _send(settings, destination) for name, destination in settings.destinations.items()}
    Deliverer(db, open_files(settings), sends, policy, current_owner("deliver")).run(stop)
    db.close()
    return 0


def _engine(engines: Mapping[str, Engine], reading: str) -> Engine:
    if reading not in engines:
        raise SettingsError(f"reading {reading!r} of the job is no longer in the settings; there are: {', '.join(engines)}")
    return engines[reading]


def _lease_seconds(destinations: Iterable[Destination]) -> float:
    """Longer than one delivery can take: connect, negotiate, send and answer each have the destination's timeout."""
    return 60 + 4 * max((one.timeout_s for one in destinations if not isinstance(one, FolderDestination)), default=15.0)


def _tell_of_unserved(db: Database, settings: Settings) -> None:
    """Deliveries that wait for a destination which the settings no longer name would wait in silence."""
    for count in count_jobs(db):
        waiting = count.kind is JobKind.DELIVER and count.state in (JobState.QUEUED, JobState.LEASED)
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


def study_facts(instances: Sequence[InstanceRow]) -> StudyFacts:
    """What routes may ask of a study, from its instance rows."""
    return StudyFacts(
        modalities=frozenset(row.modality.upper() for row in instances if row.modality),
        body_parts=frozenset(row.body_part.upper() for row in instances if row.body_part),
        calling_aes=frozenset(row.calling_ae for row in instances),
        requested_priorities=frozenset(row.requested_priority.upper() for row in instances if row.requested_priority),
    )


def _listener(settings: Settings, db: Database, files: FileStore) -> Listener:
    from dicom_node.ingest.listener import Listener, ListenerSettings
    from dicom_node.ingest.policy import AllowedPeer

    wished = settings.listener
    allowed = tuple(AllowedPeer(peer.ae_title, peer.hosts) for peer in wished.allowed)
    anybody = (AllowedPeer("*", ("0.0.0.0/0", "::/0")),)
    if not allowed and not wished.allow_any:
        _log.warning("nobody may send: `listener.allowed` is empty, so every association will be rejected")
    listener = Listener(
        ListenerSettings(
            ae_title=wished.ae_title,
            host=wished.host,
            port=wished.port,
            allowed=anybody if wished.allow_any else allowed,
            require_called_ae=wished.require_called_ae,
            max_associations=wished.max_associations,
            watermark_bytes=wished.watermark_mb * 2**20,
            idle_timeout_s=wished.idle_timeout_s,
            extra_sop_classes=wished.extra_sop_classes,
        ),
        db,
        files,
    )
    listener.start()
    return listener


def _assembler(settings: Settings, db: Database, routes: Routes) -> Assembler:
    from dicom_node.ingest.assembly import Assembler, Plan, QuietTime

    def plan(_study: StudyRow, instances: Sequence[InstanceRow]) -> Plan:
        route = routes.match(study_facts(instances))
        return Plan(route.reading, PRIORITY[route.priority], route.destinations, {"route": route.name})

    return Assembler(db, QuietTime(settings.study.quiet_seconds), plan)


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


def hl7_peer(settings: Settings, wished: Hl7Destination) -> Hl7Peer:
    """Where a destination of kind hl7 is called. Paths are made absolute."""
    from dicom_node.remote.mllp import Hl7Peer, TlsFiles

    tls = None
    if wished.tls:
        given = (wished.tls.ca_file, wished.tls.certificate_file, wished.tls.key_file)
        tls = TlsFiles(*(settings.path(file) if file else None for file in given))
    return Hl7Peer(wished.host, wished.port, wished.application, wished.facility, wished.charset, tls, wished.timeout_s)


def _send(settings: Settings, destination: Destination) -> Send:
    from dicom_node.delivery import sending
    from dicom_node.remote.dimse import DicomPeer
    from dicom_node.remote.fhir import FhirPeer

    if isinstance(destination, FolderDestination):
        return partial(sending.to_folder, settings.path(destination.path))
    if destination.kind == "dicom":
        peer = DicomPeer(
            destination.host, destination.port, destination.ae_title, destination.calling_ae_title, destination.timeout_s
        )
        return partial(sending.to_dicom, peer)
    if destination.kind == "hl7":
        return partial(sending.to_hl7, hl7_peer(settings, destination))
    token_file = settings.path(destination.token_file) if destination.token_file else None
    return partial(sending.to_fhir, FhirPeer(destination.url, token_file, destination.timeout_s))
