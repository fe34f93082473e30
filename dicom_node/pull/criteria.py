"""Which studies are wanted, and how the archive is asked for them."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from dicom_node.errors import SettingsError
from dicom_node.ingest.receive import valid_uid
from dicom_node.remote.matches import Found, Level, Match, Query

_TOLD: Final = {"StudyDate": "", "ModalitiesInStudy": "", "NumberOfStudyRelatedInstances": ""}
_MOST: Final = 5000  # studies of one question; a span of days with more is asked for in halves


@dataclass(frozen=True, slots=True)
class Criteria:
    """Any of ``studies`` (UIDs), ``accessions`` and ``patients`` (IDs), or, where there is none of them, all studies.

    ``modalities``, ``since`` and ``until`` (days, both included) narrow it down.
    """

    studies: tuple[str, ...] = ()
    accessions: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits; they tell nothing of what is asked for."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A study of the archive. ``expected``: how many instances it has there; 0: not told."""

    study_uid: str
    study_date: str = ""
    modalities: tuple[str, ...] = ()
    expected: int = 0


Ask = Callable[[Query], Found]


def search(criteria: Criteria, ask: Ask) -> tuple[Wanted, ...]:
    """Every wanted study once, the oldest first. Raises PeerUnavailable, PeerRefused; SettingsError where not all are told."""
    found = {one.study_uid: one for match in _matches(criteria, ask) if (one := _wanted(match)) and _fits(one, criteria)}
    return tuple(sorted(found.values(), key=lambda one: (one.study_date, one.study_uid)))


def _matches(criteria: Criteria, ask: Ask) -> Iterator[Match]:
    named = [
        *(("StudyInstanceUID", value) for value in criteria.studies),
        *(("AccessionNumber", value) for value in criteria.accessions),
        *(("PatientID", value) for value in criteria.patients),
    ]
    days = _days(criteria.since, criteria.until)
    for keyword, value in named:
        yield from _whole(ask(Query(Level.STUDY, {**_TOLD, keyword: value, "StudyDate": days}, _MOST)))
    if named:
        return
    for modality in criteria.modalities or ("",):
        yield from _all_of(modality, criteria.since, criteria.until or date.today(), ask)


def _all_of(modality: str, since: date | None, until: date, ask: Ask) -> Iterator[Match]:
    query = Query(Level.STUDY, {**_TOLD, "ModalitiesInStudy": modality, "StudyDate": _days(since, until)}, _MOST)
    found = ask(query)
    if found.whole or since is None or since >= until:
        yield from _whole(found)
        return
    middle = since + (until - since) // 2
    yield from _all_of(modality, since, middle, ask)
    yield from _all_of(modality, middle + timedelta(days=1), until, ask)


def _whole(found: Found) -> Sequence[Match]:
    """Raises SettingsError where there are others, which nobody would miss."""
    if not found.whole:
        raise SettingsError(f"the archive has more than the {len(found.matches)} studies it told; add --since or --modality")
    return found.matches


def _days(since: date | None, until: date | None) -> str:
    """A range of PS3.4 C.2.2.2.5."""
    if since is None and until is None:
        return ""
    return f"{since:%Y%m%d}-{until:%Y%m%d}" if since and until else f"{since:%Y%m%d}-" if since else f"-{until:%Y%m%d}"


def _wanted(match: Match) -> Wanted | None:
    """None for an answer that names no study."""
    uid, count = match["StudyInstanceUID"], match["NumberOfStudyRelatedInstances"]
    if not uid or not valid_uid(uid):
        return None
    modalities = tuple(sorted(filter(None, match["ModalitiesInStudy"].split("\\"))))
    return Wanted(uid, match["StudyDate"], modalities, int(count) if count.isdigit() else 0)


def _fits(one: Wanted, criteria: Criteria) -> bool:
    """Archives may pass over a key that they do not match by: what they tell then decides."""
    if criteria.modalities and one.modalities and not set(criteria.modalities) & set(one.modalities):
        return False
    if not one.study_date.isdigit() or len(one.study_date) != 8:
        return True
    since = f"{criteria.since:%Y%m%d}" if criteria.since else ""
    until = f"{criteria.until:%Y%m%d}" if criteria.until else "99999999"
    return since <= one.study_date <= until


def read_values(file: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """One value a line, or the first of ``columns`` that a CSV file has; so that no value stands on a command line.

    Raises SettingsError.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = [row for row in csv.reader(text) if row and row[0].strip() and not row[0].startswith("#")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{file}: cannot be read ({type(error).__name__}); write one value a line") from error
    if not rows:
        raise SettingsError(f"{file}: holds no value; write one a line")
    header = [cell.strip().lower() for cell in rows[0]]
    at = next((header.index(name) for name in columns if name in header), None)
    kept = rows if at is None else rows[1:]
    values = [row[at or 0].strip() for row in kept if len(row) > (at or 0)]
    for number, value in enumerate(values, 1):
        if set(value) & set("*?\\") or len(value) > 64 or not value.isprintable():
            raise SettingsError(f"{file}: value {number} has a wildcard or is longer than 64 characters")
    return tuple(dict.fromkeys(value for value in values if value))
