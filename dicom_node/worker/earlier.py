"""The earlier studies that a reading is compared with: read by this node, and of the same patient by their own images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import time
from typing import Final

import structlog
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.pixels.quiet import quiet
from dicom_node.reading_json import from_json, priors_from_json, priors_to_json
from dicom_node.storage.compared import keep_priors, kept_priors
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import InstanceRow, instances_of
from dicom_node.storage.jobs import Job
from dicom_node.storage.priors import Prior, PriorState, priors_of
from dicom_node.storage.results import results_of
from reporting import clean
from reporting.comparison import PriorReading, prior_reading

_HEADER: Final = [
    "SpecificCharacterSet", "StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate", "StudyTime",
]  # fmt: skip
_COMPARED: Final = (PriorState.HERE, PriorState.READ)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose a study is and when it was made, as its images say; empty where they do not."""

    patient_id: str
    issuer: str
    birth_date: str
    study_date: str
    study_time: str

    def same_patient(self, other: Identity) -> bool:
        """By the ID, which both must tell; by issuer and date of birth where both do."""
        told = ((self.issuer, other.issuer), (self.birth_date, other.birth_date))
        agree = all(ours == theirs for ours, theirs in told if ours and theirs)
        return bool(self.patient_id) and self.patient_id == other.patient_id and agree

    def before(self, other: Identity) -> bool:
        """Whether this study may be the earlier one: nothing says that it is not."""
        if not (self.study_date and other.study_date):
            return True
        if self.study_date != other.study_date or not (self.study_time and other.study_time):
            return self.study_date <= other.study_date
        return earlier_time(self.study_time, other.study_time)


def earlier_time(one: str, other: str) -> bool:
    """Whether one DICOM time (HHMMSS.FFFFFF or its beginning) is before the other, as far as both tell."""
    return (_time(one) or time.max) < (_time(other) or time.min)


def priors_for(db: Database, files: FileStore, job: Job) -> tuple[PriorReading, ...]:
    """What a job's reading is compared with: decided once, at its first try. Raises StorageError."""
    key = (job.study_uid, int(job.payload["revision"]), str(job.payload["reading"]))
    with db.read() as conn:
        kept = kept_priors(conn, *key)
        known = priors_of(conn, job.study_uid) if kept is None else ()
    if kept is None and not known and "priors" not in job.payload:
        return ()
    if kept is None:
        found = priors_to_json(tuple(_readings(db, files, job.study_uid, key[2], known)))
        with db.write() as conn:
            kept = keep_priors(conn, *key, found, db.now())
    return priors_from_json(kept)


def _readings(
    db: Database, files: FileStore, study_uid: str, reading_name: str, known: Iterable[Prior]
) -> Iterable[PriorReading]:
    with db.read() as conn:
        ours = identities(files, instances_of(conn, study_uid)[:1])
    for prior in known:
        if prior.state not in _COMPARED or not clean.is_uid(prior.study_uid):
            continue
        with db.read() as conn:
            rows = instances_of(conn, prior.study_uid)
            result = next((one for one in results_of(conn, prior.study_uid) if one.reading_name == reading_name), None)
        if result is None or not rows:
            continue
        theirs = identities(files, _first_of_series(rows))
        if not ours or not theirs or not all(one.same_patient(ours[0]) for one in theirs):
            _refuse(db, study_uid, prior)
        elif all(one.before(ours[0]) for one in theirs):
            first = theirs[0]
            reading = from_json(result.reading_json)
            yield prior_reading(prior.study_uid, first.study_date, first.study_time, result.revision, reading)


def identities(files: FileStore, rows: Iterable[InstanceRow]) -> list[Identity]:
    """Of each instance; one whose header cannot be read is nobody's, and so agrees with none."""
    return [_identity(files, row) for row in rows]


def _identity(files: FileStore, row: InstanceRow) -> Identity:
    try:
        with quiet():
            header = dcmread(files.path(row.path), stop_before_pixels=True, specific_tags=_HEADER, force=True)
            return _told(header)
    except (OSError, InvalidDicomError, ValueError, EOFError):
        return Identity("", "", "", "", "")


def _told(header: Dataset) -> Identity:
    names = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate", "StudyTime")
    return Identity(*(clean.text(header, name) for name in names))


def _first_of_series(rows: Iterable[InstanceRow]) -> list[InstanceRow]:
    found: dict[str, InstanceRow] = {}
    for row in rows:
        found.setdefault(row.series_uid, row)
    return list(found.values())


def _refuse(db: Database, study_uid: str, prior: Prior) -> None:
    """The archive's word and the images disagree: an operator must know, and nothing is compared."""
    text = f"the images of {prior.study_uid}, which the archive gave as a prior, are of another patient; it is not compared"
    _log.warning("a prior is not compared: its images are of another patient", study_uid=prior.study_uid)
    with db.write() as conn:
        record_event(conn, NewEvent(EventKind.CONFLICT, text, study_uid=study_uid), db.now())


def _time(text: str) -> time | None:
    digits = text.split(".")[0]
    try:
        return time(int(digits[:2]), int(digits[2:4] or 0), min(int(digits[4:6] or 0), 59))
    except ValueError:
        return None
