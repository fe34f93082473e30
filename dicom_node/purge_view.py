"""`wetread purge`: what retention would remove, what stays and why; and removing it."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.table import Table

from dicom_node import app, logs
from dicom_node.app.housekeeping import retention
from dicom_node.audit import Auditor
from dicom_node.keeping.purge import Purged
from dicom_node.keeping.retention import Retention
from dicom_node.keeping.rules import NEVER, Cutoffs, Fill, cutoffs
from dicom_node.retention_settings import RetentionSettings
from dicom_node.settings import load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.old_rows import old_events, old_jobs
from dicom_node.storage.retention import Kept, Removed, kept_studies, old_documents, removable_studies
from dicom_node.terminal import console

_MANY: Final = 1_000_000  # studies of one look
_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would go now. ``kept``: old enough, and why it stays. ``urgent``: studies that the high watermark would take too."""

    purged: Purged
    kept: dict[Kept, int]
    oldest_at: float | None
    urgent: Removed
    full: Fill


def run(config: Path, *, dry_run: bool, as_json: bool) -> int:
    """Print what goes; remove it unless ``dry_run``. Raises SettingsError, StorageError."""
    settings = load_settings(config)
    logs.configure(settings.log.level, settings.log.form)
    with closing(app.open_database(settings)) as db:
        files = app.open_files(settings)
        keep = retention(settings, db, files, Auditor.of(settings, files))
        now = db.now()
        seen = outlook(db, keep, cutoffs(settings.retention, now))
        done = None if dry_run else keep.purge(threading.Event())
    if as_json:
        print(json.dumps(_plain(seen, done), indent=2))
        return 0
    _print(seen, settings.retention, now)
    if done is not None:
        gone = f"{done.studies} studies, {done.documents.count} documents, {done.jobs} jobs, {done.events} events"
        console().print(f"removed: {gone}", soft_wrap=True)
    return 0


def outlook(db: Database, keep: Retention, old: Cutoffs) -> Outlook:
    """Counted as the purge would find it. Raises StorageError."""
    with db.read() as conn:
        studies = removable_studies(conn, old.images, old.conflicts, _MANY) if old.images != NEVER else ()
        younger = removable_studies(conn, old.emergency, old.conflicts, _MANY)
        purged = Purged(
            len(studies),
            Removed(sum(one.images for one in studies), sum(one.size for one in studies)),
            old_documents(conn, old.documents) if old.documents != NEVER else Removed(),
            old_jobs(conn, old.jobs) if old.jobs != NEVER else 0,
            old_events(conn, old.events) if old.events != NEVER else 0,
        )
        kept = kept_studies(conn, max(old.images, old.emergency), old.conflicts)
    urgent = Removed(sum(one.images for one in younger), sum(one.size for one in younger))
    return Outlook(purged, kept, studies[0].last_instance_at if studies else None, urgent, keep.fill())


def _print(seen: Outlook, rules: RetentionSettings, now: float) -> None:
    table = Table("what", "older than", "goes", "size", box=None)
    gone = seen.purged
    studies = f"{gone.studies} ({gone.images.count})"
    table.add_row("studies (images)", _days(rules.images_days), studies, _size(gone.images.size))
    table.add_row("documents", _days(rules.documents_days), str(gone.documents.count), _size(gone.documents.size))
    table.add_row("finished jobs", _days(rules.jobs_days), str(gone.jobs), "")
    table.add_row("events", _days(rules.events_days), str(gone.events), "")
    out = console()
    out.print(table)
    if seen.oldest_at is not None:
        out.print(f"the oldest of these studies is {(now - seen.oldest_at) / _DAY_S:.0f} days old")
    for why, count in seen.kept.items():
        out.print(f"stays: {count} studies: {why}", soft_wrap=True)
    marks = f", high watermark {rules.high}, low {rules.low}" if rules.high else ", no watermarks"
    out.print(f"in use: {seen.full}{marks}; {_size(seen.urgent.size)} of images may go before their time", soft_wrap=True)


def _plain(seen: Outlook, done: Purged | None) -> dict[str, object]:
    kept = {why.name.lower(): count for why, count in seen.kept.items()}
    return {"would_go": asdict(seen.purged), "kept": kept, "removed": None if done is None else asdict(done)}


def _days(value: float) -> str:
    return f"{value:g} days" if value else "never"


def _size(value: int) -> str:
    return f"{value / 1e9:.2f} GB"
