"""What is to be read for a job, and whether it still is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum, auto

from dicom_node.flow import ReadRequest
from dicom_node.reading_json import from_json
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import instances_of
from dicom_node.storage.jobs import Job, JobKind, JobState, list_jobs
from dicom_node.storage.reading_claims import take_back
from dicom_node.storage.results import DocumentRow, earlier_documents, load_result
from dicom_node.storage.retention import purged_note
from dicom_node.worker.earlier import priors_for
from dicom_node.worker.options import WorkerOptions
from inference.reading import Reading, Skipped
from reporting.context import DocumentKind, Predecessor
from reporting.uids import whole_uid


class Standing(Enum):
    """A job among the jobs of its study."""

    DUE = auto()
    REPLACED = auto()  # a later revision is to be read, or was: of two results only one could be current
    EARLIER_FIRST = auto()  # another worker still reads an earlier revision, whose documents this one must name


def standing(db: Database, job: Job, now: float) -> Standing:
    """Raises StorageError.

    A worker whose lease of an earlier revision ran out loses it here: it could still save that after this one was read.
    """
    others = [other for other in list_jobs(db, kind=JobKind.READ, study_uid=job.study_uid) if other.id != job.id]
    mine = _revision(job)
    if any(_revision(other) > mine for other in others):
        return Standing.REPLACED
    at_work = [other for other in others if other.state is JobState.LEASED and _revision(other) < mine]
    gone = [other for other in at_work if take_back(db, other, now)]
    return Standing.DUE if len(gone) == len(at_work) else Standing.EARLIER_FIRST


def request_of(db: Database, files: FileStore, options: WorkerOptions, job: Job) -> ReadRequest:
    """Raises StorageError."""
    with db.read() as connection:
        rows = instances_of(connection, job.study_uid)
        earlier = earlier_documents(connection, job.study_uid, str(job.payload["reading"]), _revision(job))
        removed = purged_note(connection, job.study_uid)
    return ReadRequest(
        study_instance_uid=job.study_uid,
        paths=tuple(files.path(row.path) for row in rows),
        revision=_revision(job),
        read_at=datetime.fromtimestamp(int(job.created_at), UTC).astimezone(),
        device_uid=options.device_uid,
        station_name=options.station_name,
        institution=options.institution,
        predecessors=_predecessors(earlier),
        missing=_removed(*removed) if removed else (),
        priors=priors_for(db, files, job),
    )


def _removed(images: int, at: float) -> tuple[Skipped, ...]:
    """What retention took before a late image came: a reading of the rest must say so."""
    day = datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d")
    many = f"{images} images that came earlier were" if images > 1 else "1 image that came earlier was"
    return (Skipped("", f"{many} removed from the node by {day} and {'are' if images > 1 else 'is'} not in this reading"),)


def saved_findings(db: Database, job: Job) -> Reading | None:
    """What an earlier try has read, where its findings were sent and its draft was not. Raises StorageError."""
    with db.read() as connection:
        row = load_result(connection, job.study_uid, _revision(job), str(job.payload["reading"]))
    reading = from_json(row.reading_json) if row else None
    return reading if reading and reading.draft.pending else None


def _revision(job: Job) -> int:
    return int(job.payload["revision"])


def _predecessors(rows: Iterable[DocumentRow]) -> tuple[Predecessor, ...]:
    """A Bundle that was sent before its draft and the whole one are of one report, and count once."""
    named = [row for row in rows if row.sop_class_uid or row.kind == DocumentKind.FHIR_BUNDLE]
    found = {whole_uid(row.uid): row for row in named}
    return tuple(Predecessor(DocumentKind(row.kind), uid, row.sop_class_uid, row.series_uid) for uid, row in found.items())
