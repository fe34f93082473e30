"""The delivering process: sends what the outbox holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dicom_node import logs, presence
from dicom_node.app.common import PATIENCE_S, open_database, open_files, traced
from dicom_node.app.housekeeping import audited, housekeeping
from dicom_node.app.querying import answering
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.job_counts import count_jobs
from dicom_node.storage.jobs import JobKind, JobState
from dicom_node.storage.owner import current_owner
from dicom_node.supervisor import stop_on_signal

if TYPE_CHECKING:
    from dicom_node.delivery.destination import Destination

_log = structlog.get_logger()


def deliver(file: Path, parent: int) -> int:
    """Deliver documents until told to stop, or until process ``parent`` (0: none) is gone."""
    from dicom_node.delivery import destinations
    from dicom_node.delivery.deliverer import Deliverer

    settings = load_settings(file)
    logs.configure(settings.log.level, settings.log.form)
    stop = stop_on_signal(parent)
    db = open_database(settings, PATIENCE_S)
    tell_of_unserved(db, settings)
    targets, policy = destinations.targets(settings, db), destinations.retry_policy(settings)
    files = open_files(settings)
    with (
        _hearing(settings, db, stop),
        presence.keep(db, "deliver"),
        traced(settings, "deliver"),
        answering(settings, db, files, stop),
        audited(settings, db, files),
    ):
        targets = witnessed(settings, db, files, targets)
        with housekeeping(settings, db, files, stop):
            Deliverer(db, files, targets, policy, current_owner("deliver")).run(stop)
    db.close()
    return 0


@contextmanager
def _hearing(settings: Settings, db: Database, stop: threading.Event) -> Iterator[None]:
    """While the body runs, peers may bring storage commitment reports. However it ends, no thread keeps the process alive."""
    from dicom_node.delivery.destinations import tell_reports

    thread = threading.Thread(target=tell_reports, args=(settings, db, stop), name="commitment-reports")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def witnessed(settings: Settings, db: Database, files: FileStore, targets: Mapping[str, Destination]) -> dict[str, Destination]:
    """The destinations, each with its part of the audit trail."""
    from dicom_node.audit import Auditor
    from dicom_node.audit.deliveries import delivery_audit

    auditor = Auditor.of(settings, files)
    witnesses = {name: delivery_audit(db, auditor, name, wished) for name, wished in settings.destinations.items()}
    return {name: replace(target, witness=witnesses.get(name)) for name, target in targets.items()}


def tell_of_unserved(db: Database, settings: Settings) -> None:
    """Deliveries that wait for a destination which the settings no longer name would wait in silence."""
    for count in count_jobs(db):
        unfinished = (JobState.QUEUED, JobState.LEASED, JobState.AWAITING)
        waiting = count.kind is JobKind.DELIVER and count.state in unfinished
        if waiting and count.queue not in settings.destinations:
            _log.error("deliveries wait for a destination the settings lack", destination=count.queue, count=count.count)
