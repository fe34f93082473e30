"""The working process: the only one that loads models."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom_node import gpu, logs, presence
from dicom_node.app.common import installation_uid, live_routes, open_database, open_files, traced
from dicom_node.choices import document_options, engine_options, pixel_options
from dicom_node.errors import SettingsError
from dicom_node.flow import Bounds
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.owner import current_owner
from dicom_node.supervisor import stop_on_signal
from inference.errors import DeviceLost, InferenceError

if TYPE_CHECKING:
    from dicom_node.worker.options import WorkerOptions
    from inference.engine import Engine

PATIENCE_S: Final = 60.0  # for a database that starts with the node
LOOK_S: Final = 1.0  # how often files that cannot be used are looked at
LONGEST_S: Final = 300.0  # after which they are tried again all the same: what failed may have been the device
LOST: Final = 70  # EX_SOFTWARE of sysexits.h, as ``work.watchdog.STATUS``
_log = structlog.get_logger()


def work(file: Path, parent: int) -> int:
    """Read studies until told to stop, or until process ``parent`` (0: none) is gone.

    SIGHUP ends it in order too: its parent starts it again, with the settings and models as they are then.
    Raises InferenceError where models cannot be used; with a parent, which would only try again, it waits for other files.
    """
    settings = load_settings(file)  # before torch is imported: a mistake is told at once
    logs.configure(settings.log.level, settings.log.form)
    stop = stop_on_signal(parent)
    signal.signal(signal.SIGHUP, lambda *_: stop.set())
    pixel_options(settings)
    with (
        closing(open_database(settings, PATIENCE_S)) as db,
        presence.keep(db, "work", "loading models", gpu.set_gauges) as here,
    ):
        try:
            engines = _loaded(settings)
        except InferenceError as error:
            if not parent:
                raise
            here.tell("refused: the models cannot be used")
            _tell_refused(db, str(error))
            _wait_for_other_files(file, settings, stop)
            return 0 if stop.is_set() else 2
        here.tell("ready")
        with traced(settings, "work"):
            return read_until(stop, settings, db, engines)


def _loaded(settings: Settings) -> dict[str, Engine]:
    from inference.engine import Engine

    engines = {name: Engine.load(engine_options(settings, name)) for name in settings.readings}
    for name, engine in engines.items():
        _log.info("engine ready", reading=name, state=engine.precision, reason=f"triage: {engine.why}")
    _log.info("working", model=[f"{m.name} {m.version}" for e in engines.values() for m in e.models], mode=settings.mode)
    return engines


def read_until(stop: threading.Event, settings: Settings, db: Database, engines: Mapping[str, Engine]) -> int:
    """Read studies with these models until ``stop`` is set or the device is lost; the exit status."""
    from dicom_node.pixels.reader import PixelReader
    from dicom_node.worker.worker import Worker

    routes, files, owner = live_routes(settings, db), open_files(settings), current_owner("work")
    with PixelReader(pixel_options(settings)) as pixels:
        reader, options = partial(engine_of, engines), worker_options(settings)
        worker = Worker(db, files, reader, options, owner, routes.current, pixels, watched=True)
        try:
            with closing(worker):
                worker.run(stop)
        except DeviceLost as error:
            _log.critical("the device is lost to this process, which is replaced", error=str(error))
            return LOST
    return 0


def worker_options(settings: Settings) -> WorkerOptions:
    """What the settings tell a worker. Raises SettingsError."""
    from dicom_node.worker.options import WorkerOptions

    own = settings.work
    same = ("lease_seconds", "max_attempts", "retry_seconds", "poll_seconds", "batch", "batch_seconds", "ageing_seconds")
    return WorkerOptions(
        mode=settings.mode,
        wanted={name: tuple(destination.documents) for name, destination in settings.destinations.items()},
        documents=document_options(settings),
        device_uid=installation_uid(settings),
        station_name=settings.documents.station_name,
        institution=settings.documents.institution,
        findings_first=own.findings_first,
        step_seconds=own.step_seconds,
        bounds=Bounds(own.study_seconds, own.study_instances, own.study_memory_mb),
        **{name: getattr(own, name) for name in same},
    )


def engine_of(engines: Mapping[str, Engine], reading: str) -> Engine:
    if reading not in engines:
        raise SettingsError(f"reading {reading!r} of the job is no longer in the settings; there are: {', '.join(engines)}")
    return engines[reading]


def _tell_refused(db: Database, why: str) -> None:
    text = f"No study is read: {why}. Received studies wait, and are read once the models can be used"
    _log.critical(text)
    with db.write() as connection:
        record_event(connection, NewEvent(EventKind.FAILURE, text[:500], Severity.ALERT), db.now())


def _wait_for_other_files(file: Path, settings: Settings, stop: threading.Event) -> None:
    """Until a file of the settings or of the models has changed; then a new process tries them."""
    seen, end = _look(file, settings), time.monotonic() + LONGEST_S
    while not stop.wait(LOOK_S) and time.monotonic() < end and _look(file, settings) == seen:
        pass


def _look(file: Path, settings: Settings) -> frozenset[tuple[str, int, int]]:
    """Path, time and size of the settings file and of every file that its readings name."""
    places = {file}
    for name in settings.readings:
        options = engine_options(settings, name)
        named = (options.triage, options.drafting, options.catalogue, options.calibration, options.probe)
        places.update(place for place in named if place is not None)
    files = (one for place in places for one in (place.rglob("*") if place.is_dir() else (place,)))
    return frozenset((str(one), *_stamp(one)) for one in files)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
