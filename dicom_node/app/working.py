"""The working process: the only one that loads models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dicom_node import logs
from dicom_node.app.common import installation_uid, live_routes, open_database, open_files
from dicom_node.choices import document_options, engine_options, pixel_options
from dicom_node.errors import SettingsError
from dicom_node.settings import load_settings
from dicom_node.storage.owner import current_owner
from dicom_node.supervisor import stop_on_signal

if TYPE_CHECKING:
    from inference.engine import Engine

_log = structlog.get_logger()


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
        reader = partial(engine_of, engines)
        Worker(db, open_files(settings), reader, options, current_owner("work"), routes.current, pixels).run(stop)
    db.close()
    return 0


def engine_of(engines: Mapping[str, Engine], reading: str) -> Engine:
    if reading not in engines:
        raise SettingsError(f"reading {reading!r} of the job is no longer in the settings; there are: {', '.join(engines)}")
    return engines[reading]
