"""The keeper's chores of retention, and the alarm where the disk is full of what may not be removed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from dicom_node.keeping.orphans import delete_orphans, sweep
from dicom_node.keeping.purge import Purged, Purger
from dicom_node.keeping.rules import Cutoffs, Fill, cutoffs, fill
from dicom_node.retention_settings import RetentionSettings
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, list_events, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.retention import held_bytes, kept_studies

_ALARM_EVERY_S: Final = 6 * 3600.0
_LEAP_S: Final = 3600.0  # a clock that leaps further than this makes everything look old
_log = structlog.get_logger()


class Retention:
    """Applies the settings. ``clock``: seconds since 1970 UTC."""

    def __init__(
        self,
        db: Database,
        files: FileStore,
        settings: RetentionSettings,
        purger: Purger,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db, self._files, self._settings, self._purger, self._clock = db, files, settings, purger, clock
        self._buckets = itertools.count()
        self._elapsed, self._began = elapsed, clock() - elapsed()
        self._told = False  # of the clock's leap

    def purge(self, stop: threading.Event) -> Purged:
        """By age, then by need. Where the clock was set forward, an operator is told first, and nothing is removed this time.

        Raises StorageError, StorageBusy.
        """
        now = self._clock()
        if self._leapt(now):
            if not self._told:
                self._told = True
                self._tell(
                    "The clock leapt forward; nothing is removed before the next look. Check the clock (NTP)", Severity.ALERT
                )
                return Purged()
            self._began = now - self._elapsed()
        self._told = False
        done = self._purger.by_age(cutoffs(self._settings, now), now, stop) + self.relieve(stop)
        if done.anything:
            _log.info("retention removed what was old", count=done.rows)
        return done

    def relieve(self, stop: threading.Event) -> Purged:
        """By need alone, where the high watermark is reached; not after the clock leapt. Raises StorageError, StorageBusy."""
        full, now = self.fill(), self._clock()
        if full.used < full.high or self._leapt(now):
            return Purged()
        return self._relieve(cutoffs(self._settings, now), now, stop)

    def sweep(self, _stop: threading.Event) -> None:
        """One part of the store, and what was put aside long ago. Raises StorageError, StorageBusy."""
        now = self._clock()
        if self._leapt(now):
            return
        found = sweep(self._db, self._files, next(self._buckets), now)
        if found.moved:
            many = f"{len(found.moved)} files that no row names were moved to orphans/"
            self._tell(f"{many}; were they acknowledged before a restored backup, send their studies again", Severity.WARNING)
        for study_uid in sorted({row.study_uid for row in found.missing}):
            count = sum(row.study_uid == study_uid for row in found.missing)
            self._tell(f"{count} files of the study are missing from the store; send it again", Severity.ALERT, study_uid)
        delete_orphans(self._files, cutoffs(self._settings, now).orphans)

    def fill(self) -> Fill:
        """How full it is now. Raises StorageError."""
        held = 0
        if self._settings.high.endswith("GB"):
            with self._db.read() as conn:
                held = held_bytes(conn)
        return fill(self._settings, self._files.root, held)

    def _leapt(self, now: float) -> bool:
        """Until an operator was told and has had until the next look of ``purge``."""
        return now - self._elapsed() - self._began > _LEAP_S

    def _relieve(self, old: Cutoffs, now: float, stop: threading.Event) -> Purged:
        done = self._purger.by_need(self.fill, old, now, stop)
        full = self.fill()
        if done.studies:
            text = f"The store was too full: the images of {done.studies} studies were removed before their time; now {full}"
            self._tell(text, Severity.WARNING)
        if full.used >= full.high and not stop.is_set():
            self._alarm(full, old, now)
        return done

    def _alarm(self, full: Fill, old: Cutoffs, now: float) -> None:
        with self._db.read() as conn:
            told = list_events(conn, 1, EventKind.PURGED, now - _ALARM_EVERY_S)
            kept = kept_studies(conn, old.emergency, old.conflicts)
        if told and told[0].severity is Severity.ALERT:
            return
        why = "; ".join(f"{count} studies: {reason}" for reason, count in kept.items()) or "no old images are left"
        text = f"The store is too full ({full}, high watermark {full.high:g}) and nothing more may be removed ({why})"
        self._tell(text, Severity.ALERT)

    def _tell(self, text: str, severity: Severity, study_uid: str = "") -> None:
        with self._db.write() as conn:
            record_event(conn, NewEvent(EventKind.PURGED, text, severity, study_uid), self._clock())
