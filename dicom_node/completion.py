"""When a study is complete: the archive's count, the series a rule wants, or quiet time, whichever comes first.

Quiet time always ends the waiting: an archive that is down, or that never gets what it counts, holds nothing up for longer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Final

import structlog

from dicom_node.errors import RemoteError, describe
from dicom_node.ingest.assembly import Complete, quiet_for
from dicom_node.peer_settings import FindArchive
from dicom_node.remote.counting import count_by_find, count_by_qido
from dicom_node.remote.dimse import DicomPeer
from dicom_node.remote.http import HttpPeer
from dicom_node.remote.tls import TlsFiles
from dicom_node.routing import Conditions, StudyFacts
from dicom_node.settings import Settings, TlsSettings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import InstanceRow, instances_of
from dicom_node.storage.senders import all_released_at
from dicom_node.storage.studies import StudyRow
from dicom_node.study_facts import study_facts
from dicom_node.study_settings import StudyRule

Ask = Callable[[str], int]  # how many instances the archive has of a study; raises RemoteError
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0
_REMEMBERED: Final = 2000  # studies
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Series:
    """A series of which ``when`` holds and of which so many ``instances`` are there."""

    when: Conditions
    instances: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Seconds without an instance after which a study is complete, and what makes it so earlier.

    ``settle_s``: even then it is waited so long after the last instance. ``end_s``: since the release of the last association
    that carried it; None: not looked at.
    """

    when: Conditions
    quiet_s: float
    settle_s: float
    ask: bool
    required: tuple[Series, ...] = ()
    end_s: float | None = None


class Completeness:
    """A ``CompletionRule``: the first of ``rules`` that holds decides; the last must hold always."""

    def __init__(self, rules: Sequence[Rule], held: Held, counts: Counts | None) -> None:
        self._rules, self._held, self._counts = tuple(rules), held, counts

    def complete(self, study: StudyRow, now: float) -> Complete | None:
        """Why it is complete; None where it is not. Raises StorageError where the study's rows cannot be read."""
        quiet = now - study.last_instance_at
        rule = next(rule for rule in self._rules if rule.when == Conditions() or rule.when.hold(self._held.facts(study)))
        if quiet >= rule.quiet_s:
            return quiet_for(rule.quiet_s)
        return None if quiet < rule.settle_s else self._early(study, now, rule)

    def _early(self, study: StudyRow, now: float, rule: Rule) -> Complete | None:
        if rule.ask and self._counts is not None and self._counts.all_here(study, now):
            return Complete("archive", f"the archive has no more than its {study.instance_count} images")
        if rule.end_s is not None and self._held.released(study, now, rule.end_s):
            return Complete("association", f"its last association ended {rule.end_s:g} s before")
        if rule.required and self._held.has(study, rule.required):
            return Complete("series", "all series that the rule requires were there")
        return None


class Held:
    """What the node holds of the studies that are looked at, read once for each number of instances."""

    def __init__(self, db: Database, files: FileStore) -> None:
        self._db, self._files = db, files
        self._rows: dict[str, tuple[int, tuple[InstanceRow, ...]]] = {}

    def facts(self, study: StudyRow) -> StudyFacts:
        return self._facts(self._of(study))

    def released(self, study: StudyRow, now: float, since_s: float) -> bool:
        """Whether every association that carried a study has ended, the last by a release and so many seconds ago."""
        if now - study.last_instance_at < since_s:
            return False
        with self._db.read() as connection:
            at = all_released_at(connection, study.study_uid, now)
        return at is not None and now - at >= since_s

    def has(self, study: StudyRow, required: Sequence[Series]) -> bool:
        """Whether for each required series there is another series that meets it, and has its instances."""
        by_series = groupby(sorted(self._of(study), key=attrgetter("series_uid")), key=attrgetter("series_uid"))
        there = [tuple(rows) for _, rows in by_series]
        return _all_met([[self._meets(rows, one) for rows in there] for one in required])

    def _meets(self, rows: tuple[InstanceRow, ...], wanted: Series) -> bool:
        return len(rows) >= wanted.instances and wanted.when.hold(self._facts(rows))

    def _facts(self, rows: Sequence[InstanceRow]) -> StudyFacts:
        return study_facts(rows, datetime.now().astimezone(), self._files.path)

    def _of(self, study: StudyRow) -> tuple[InstanceRow, ...]:
        known = self._rows.get(study.study_uid)
        if known is None or known[0] != study.instance_count:
            with self._db.read() as connection:
                rows = tuple(row for row in instances_of(connection, study.study_uid) if not row.set_aside)
            known = (study.instance_count, rows)
            while len(self._rows) >= _REMEMBERED:
                del self._rows[next(iter(self._rows))]
            self._rows[study.study_uid] = known
        return known[1]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is known of one study's count. ``at``: when it was asked; ``wait_s``: until it may be asked again."""

    at: float
    count: int | None = None
    wait_s: float = _FIRST_WAIT_S
    under_way: bool = True


class Counts:
    """Counts of an archive, asked in the background so that nothing waits for it. Close it at the end."""

    def __init__(self, ask: Ask, settle_s: float) -> None:
        self._ask, self._settle_s = ask, settle_s
        self._known: dict[str, _Asked] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="count")
        self._silent = False

    def all_here(self, study: StudyRow, now: float) -> bool:
        """Whether the archive, asked after the last instance came, has no more than the node. Asks it where that is due.

        The number is one that was told ``settle_s`` after the last instance: before, the archive may itself be receiving.
        """
        with self._lock:
            asked = self._known.get(study.study_uid)
            fresh = asked is not None and asked.at >= study.last_instance_at + self._settle_s
            if asked is not None and fresh and asked.count and study.instance_count >= asked.count:
                return True
            if asked is None or (not asked.under_way and (not fresh or now >= asked.at + asked.wait_s)):
                self._begin(study.study_uid, now, asked if fresh else None)
        return False

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, study_uid: str, now: float, before: _Asked | None) -> None:
        wait = min(2 * before.wait_s, _LONGEST_WAIT_S) if before else _FIRST_WAIT_S
        while len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        asked = _Asked(now, wait_s=wait)
        self._known[study_uid] = asked
        self._threads.submit(self._run, study_uid, asked)

    def _run(self, study_uid: str, asked: _Asked) -> None:
        count = None
        try:
            count = self._ask(study_uid)
        except RemoteError as error:
            self._tell(str(error))
        except Exception as error:  # noqa: BLE001  an odd answer must not end the asking
            self._tell(describe(error))
        else:
            self._silent = False
        with self._lock:
            if self._known.get(study_uid) is asked:
                self._known[study_uid] = replace(asked, count=count, under_way=False)

    def _tell(self, why: str) -> None:
        """Once until it answers again: studies are complete by quiet time meanwhile."""
        if not self._silent:
            self._silent = True
            _log.warning("the archive does not tell how many instances a study has; quiet time decides", error=why)


def completeness(settings: Settings, db: Database, files: FileStore) -> Completeness:
    """What the settings say (key ``study``)."""
    wished = settings.study
    ask = asker(settings)
    end = wished.association_end_seconds
    general = Rule(Conditions(), wished.quiet_seconds, wished.settle_seconds, ask is not None, end_s=end)
    rules = [_rule(one, general) for one in wished.rules]
    counts = Counts(ask, wished.settle_seconds) if ask is not None else None
    return Completeness([*rules, general], Held(db, files), counts)


def asker(settings: Settings) -> Ask | None:
    """How the archive is asked, where one is set."""
    archive = settings.study.archive
    if archive is None:
        return None
    if isinstance(archive, FindArchive):
        tls = _tls(settings, archive.tls) if archive.tls else None
        titles = (archive.ae_title, archive.calling_ae_title)
        return partial(count_by_find, DicomPeer(archive.host, archive.port, *titles, archive.timeout_s, tls))
    secrets = (settings.path(file) if file else None for file in (archive.token_file, archive.basic_file))
    token_file, basic_file = secrets
    return partial(count_by_qido, HttpPeer(archive.url, token_file, archive.timeout_s, basic_file, _tls(settings, archive.tls)))


def _rule(wished: StudyRule, general: Rule) -> Rule:
    return Rule(
        wished.when,
        general.quiet_s if wished.quiet_seconds is None else wished.quiet_seconds,
        general.settle_s,
        general.ask if wished.ask is None else wished.ask and general.ask,
        tuple(Series(one.when, one.instances) for one in wished.required_series),
        general.end_s if wished.association_end_seconds is None else wished.association_end_seconds,
    )


def _tls(settings: Settings, wished: TlsSettings) -> TlsFiles:
    given = (wished.ca_file, wished.certificate_file, wished.key_file)
    return TlsFiles(*(settings.path(file) if file else None for file in given))


def _all_met(meets: list[list[bool]]) -> bool:
    """Whether each row can have a column of its own in which it is true (augmenting paths)."""
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column, fits in enumerate(meets[row]):
            if fits and column not in tried:
                tried.add(column)
                if column not in owner or place(owner[column], tried):
                    owner[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(meets)))
