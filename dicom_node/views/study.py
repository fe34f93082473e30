"""What came of a study: received, complete because …, read, documents, and each delivery. Studies are named by their UID."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from dicom_node.errors import StorageError
from dicom_node.reading_json import from_json
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventRow, list_events
from dicom_node.storage.instances import InstanceRow, instances_of
from dicom_node.storage.job_counts import UNFINISHED, jobs_of, studies_in
from dicom_node.storage.jobs import Job, JobKind, JobState
from dicom_node.storage.results import DocumentRow, ResultRow, documents_of, results_of
from dicom_node.storage.studies import StudyRow, get_study, page_of_studies, studies_named

_EVENTS: Final = 100
UNTOLD: Final = "not told by the version of the node that made this job"


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study of a list. ``state``: receiving, waiting, reading, delivering, delivered, read, dead or kept."""

    study_uid: str
    first_at: float
    last_at: float
    instances: int
    revision: int
    calling_ae: str
    host: str
    priority: int | None
    state: str


@dataclass(frozen=True, slots=True)
class Series:
    """``set_aside``: kept, never read (another patient's, or other bytes under a known UID)."""

    series_uid: str
    modality: str
    body_part: str
    instances: int
    set_aside: int
    first_at: float
    last_at: float
    size: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One document on its way to one destination."""

    job: int
    destination: str
    state: str
    attempts: int
    made_at: float
    done_at: float | None
    not_before: float
    last_error: str


@dataclass(frozen=True, slots=True)
class Document:
    """``held``: the rules it breaks, for which it may not leave; ``purged_at``: when retention removed its file."""

    uid: str
    kind: str
    size: int
    made_at: float
    held: str
    purged_at: float | None
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Revision:
    """``complete_at``: when the study counted as complete; ``because``: why. ``said``: what the reading came to, in short."""

    number: int
    complete_at: float
    because: str
    route: str
    reading: str
    priority: int
    job: int
    state: str
    attempts: int
    last_error: str
    read_at: float | None
    said: str
    models: tuple[str, ...]
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class StudyView:
    line: StudyLine
    series: tuple[Series, ...]
    revisions: tuple[Revision, ...]
    events: tuple[EventRow, ...]


def recent(db: Database, limit: int, before: float | None = None, state: str = "") -> tuple[StudyLine, ...]:
    """The latest first. ``state`` "unfinished" or "dead": only those with such work. Raises StorageError."""
    with db.read() as conn:
        if state:
            chosen = UNFINISHED if state == "unfinished" else (JobState.DEAD,)
            studies = studies_named(conn, studies_in(conn, chosen, limit))
        else:
            studies = page_of_studies(conn, before, limit)
        jobs = jobs_of(conn, [study.study_uid for study in studies])
    by_study = _grouped(jobs)
    return tuple(_line(study, by_study.get(study.study_uid, ())) for study in studies)


def of_study(db: Database, study_uid: str) -> StudyView | None:
    """None where the node holds no such study. Raises StorageError."""
    with db.read() as conn:
        study = get_study(conn, study_uid)
        if study is None:
            return None
        rows = instances_of(conn, study_uid, include_set_aside=True)
        jobs, results, documents = jobs_of(conn, [study_uid]), results_of(conn, study_uid), documents_of(conn, study_uid)
        events = list_events(conn, _EVENTS, study_uid=study_uid)
    readings = [job for job in jobs if job.kind is JobKind.READ]
    deliveries = [job for job in jobs if job.kind is JobKind.DELIVER]
    revisions = [_revision(job, results, documents, deliveries) for job in sorted(readings, key=lambda one: -one.id)]
    return StudyView(_line(study, jobs), _series(rows), tuple(revisions), events)


def state_of(study: StudyRow, jobs: Collection[Job]) -> str:
    """In a word, of the whole: what is worst, then what comes first."""
    if any(job.state is JobState.DEAD for job in jobs):
        return "dead"
    if study.dirty:
        return "receiving"
    for kind, state, word in (
        (JobKind.READ, JobState.LEASED, "reading"),
        (JobKind.READ, JobState.QUEUED, "waiting"),
    ):
        if any((job.kind, job.state) == (kind, state) for job in jobs):
            return word
    deliveries = [job for job in jobs if job.kind is JobKind.DELIVER]
    if any(job.state in UNFINISHED for job in deliveries):
        return "delivering"
    return "delivered" if deliveries else "read" if jobs else "kept"


def _line(study: StudyRow, jobs: Sequence[Job]) -> StudyLine:
    priorities = [job.priority for job in jobs if job.kind is JobKind.READ]
    return StudyLine(
        study.study_uid, study.first_instance_at, study.last_instance_at, study.instance_count, study.revision,
        study.calling_ae, study.host, priorities[-1] if priorities else None, state_of(study, jobs),
    )  # fmt: skip


def _grouped(jobs: Sequence[Job]) -> Mapping[str, Sequence[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.study_uid, []).append(job)
    return found


def _series(rows: Sequence[InstanceRow]) -> tuple[Series, ...]:
    by_series = groupby(sorted(rows, key=attrgetter("series_uid")), key=attrgetter("series_uid"))
    found = [_one_series(uid, list(mine)) for uid, mine in by_series]
    return tuple(sorted(found, key=lambda one: one.first_at))


def _one_series(uid: str, rows: Sequence[InstanceRow]) -> Series:
    times = [row.received_at for row in rows]
    aside = sum(row.set_aside for row in rows)
    first = rows[0]
    return Series(
        uid, first.modality, first.body_part, len(rows) - aside, aside, min(times), max(times), sum(row.size for row in rows)
    )


def _revision(job: Job, results: Sequence[ResultRow], documents: Sequence[DocumentRow], deliveries: Sequence[Job]) -> Revision:
    payload: Mapping[str, Any] = job.payload
    number, reading = int(payload.get("revision", 0)), str(payload.get("reading", ""))
    result = next((one for one in results if (one.revision, one.reading_name) == (number, reading)), None)
    made = tuple(_document(row, deliveries) for row in documents if (row.revision, row.reading_name) == (number, reading))
    said, models = ("", ()) if result is None else _said(result)
    read_at = None if result is None else result.created_at
    return Revision(
        number, job.created_at, str(payload.get("because") or UNTOLD), str(payload.get("route", "")), reading, job.priority,
        job.id, job.state.value, job.attempts, job.last_error, read_at, said, models, made,
    )  # fmt: skip


def _document(row: DocumentRow, deliveries: Sequence[Job]) -> Document:
    mine = tuple(_delivery(job) for job in deliveries if job.payload.get("document") == row.uid)
    return Document(row.uid, row.kind, row.size, row.created_at, row.held, row.purged_at, mine)


def _delivery(job: Job) -> Delivery:
    return Delivery(
        job.id, job.queue, job.state.value, job.attempts, job.created_at, job.done_at, job.not_before, job.last_error
    )


def _said(result: ResultRow) -> tuple[str, tuple[str, ...]]:
    try:
        reading = from_json(result.reading_json)
    except StorageError as error:
        return str(error), ()
    models = tuple(f"{model.name} {model.version}" for model in reading.models)
    if not reading.assessed:
        return f"not assessable: {reading.reason}", models
    draft = f"{len(reading.draft.sentences)} sentences of draft" if reading.draft.sentences else "no draft"
    return f"{len(reading.positives)} of {len(reading.findings)} findings positive, {draft}", models
