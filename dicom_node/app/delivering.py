"""The delivering process: sends what the outbox holds."""

from __future__ import annotations

import threading
from pathlib import Path

import structlog

from dicom_node import logs
from dicom_node.app.common import open_database, open_files
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.job_counts import count_jobs
from dicom_node.storage.jobs import JobKind, JobState
from dicom_node.storage.owner import current_owner
from dicom_node.supervisor import stop_on_signal

_log = structlog.get_logger()


def deliver(file: Path, parent: int) -> int:
    """Deliver documents until told to stop, or until process ``parent`` (0: none) is gone."""
    from dicom_node.delivery import destinations
    from dicom_node.delivery.deliverer import Deliverer

    settings = load_settings(file)
    logs.configure(settings.log.level, settings.log.form)
    stop = stop_on_signal(parent)
    db = open_database(settings)
    tell_of_unserved(db, settings)
    reports = threading.Thread(target=destinations.tell_reports, args=(settings, db, stop), name="commitment-reports")
    reports.start()
    targets, policy = destinations.targets(settings, db), destinations.retry_policy(settings)
    Deliverer(db, open_files(settings), targets, policy, current_owner("deliver")).run(stop)
    reports.join()
    db.close()
    return 0


def tell_of_unserved(db: Database, settings: Settings) -> None:
    """Deliveries that wait for a destination which the settings no longer name would wait in silence."""
    for count in count_jobs(db):
        unfinished = (JobState.QUEUED, JobState.LEASED, JobState.AWAITING)
        waiting = count.kind is JobKind.DELIVER and count.state in unfinished
        if waiting and count.queue not in settings.destinations:
            _log.error("deliveries wait for a destination the settings lack", destination=count.queue, count=count.count)
