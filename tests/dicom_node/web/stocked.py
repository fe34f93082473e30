"""A node's database and files as after a day's work: a study read and delivered, one half on its way, one given up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset

from dicom_node.phantom_dicom import phantom_dx
from dicom_node.reading_json import to_json
from dicom_node.storage import nodes
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.jobs import JobKind, NewJob, bury, claim, complete, enqueue, retry_later
from dicom_node.storage.nodes import NodeRow
from dicom_node.storage.outbox import DestinationState, save_state
from dicom_node.storage.owner import current_owner, host_name
from dicom_node.storage.results import NewDocument, NewResult, save_document, save_result
from dicom_node.storage.studies import open_revision
from tests.support import GreyReader

ACCESSION = "ACC-4711"
DOWN = "HIS: no association [connection refused]"
REFUSED = "ORTHANC refuses it: C-STORE status 0xA900 <data set does not match SOP class>"


@dataclass(frozen=True, slots=True)
class Stock:
    """Study Instance UIDs by what became of them, and the job that was given up."""

    delivered: str
    waiting: str
    dead: str
    dead_job: int


def stock(db: Database, files: FileStore) -> Stock:
    """Fill an empty node. Destinations: pacs (flows), his (down)."""
    now = time.time()
    delivered = _study(db, files, 1, now - 4000)
    dead = _study(db, files, 2, now - 2000)
    waiting = _study(db, files, 3, now - 20)
    _read(db, delivered, now - 3900)
    _read(db, dead, now - 1990)
    _queue(db, waiting, now - 15, priority=0)
    _deliver_all(db, delivered, now)
    dead_job = _give_up(db, dead, now)
    save_state(db, DestinationState("pacs", host_name(), "closed", 0, now - 9000, 0.0, ""))
    save_state(db, DestinationState("his", host_name(), "open", 12, now - 700, now + 45, DOWN))
    with db.write() as conn:
        record_event(conn, NewEvent(EventKind.CONFLICT, "same UID, other bytes; both are kept", Severity.ALERT, delivered), now)
        for role, state in (("listen", "ready"), ("work", "ready"), ("deliver", "ready")):
            owner = current_owner(role)
            nodes.heartbeat(conn, NodeRow(owner, host_name(), role, "0.1.0", now - 90000, now, state))
    return Stock(delivered, waiting, dead, dead_job)


def _study(db: Database, files: FileStore, seed: int, at: float) -> str:
    film: Dataset = phantom_dx(seed, [], size=32)
    film.AccessionNumber = ACCESSION
    content = BytesIO()
    film.save_as(content, enforce_file_format=True)
    kept = files.write_document(f"film-{seed}", content.getvalue())
    uid = str(film.StudyInstanceUID)
    row = NewInstance(
        str(film.SOPInstanceUID), str(film.SOPClassUID), str(film.SeriesInstanceUID), uid, "1.2.840.10008.1.2.1", kept.path,
        kept.size, kept.sha256, "0" * 64, calling_ae="MODALITY1", called_ae="WETREAD", host="10.1.2.3", modality="DX",
        body_part="CHEST",
    )  # fmt: skip
    with db.write() as conn:
        record_instance(conn, row, at)
    return uid


def _queue(db: Database, study: str, at: float, priority: int = 20) -> None:
    payload = {"revision": 1, "reading": "chest_xray", "route": "films", "because": "nothing came for 10 s", "destinations": []}
    with db.write() as conn:
        open_revision(conn, study)
        enqueue(conn, NewJob(JobKind.READ, "read", f"read:{study}:1", study, payload, priority=priority), at)


def _read(db: Database, study: str, at: float) -> None:
    _queue(db, study, at)
    (job,) = claim(db, JobKind.READ, "read", "reader", 1, 60, at + 1)
    reading = GreyReader().refuse("the study holds no radiograph")
    with db.write() as conn:
        save_result(conn, NewResult(study, 1, "chest_xray", to_json(reading)), at + 2)
        for kind in ("findings-sr", "fhir-bundle"):
            uid = f"{study}.{kind}"
            row = NewDocument(uid, kind, f"documents/{uid}", study, 1, "chest_xray", "application/dicom", 5210, "0" * 64)
            save_document(conn, row, at + 2)
            for name in ("pacs", "his"):
                enqueue(conn, NewJob(JobKind.DELIVER, name, f"deliver:{uid}:{name}", study, {"document": uid}), at + 2)
        complete(conn, job, "reader", at + 2)


def _deliver_all(db: Database, study: str, now: float) -> None:
    """To pacs at once; his is down."""
    for job in claim(db, JobKind.DELIVER, "pacs", "sender", 9, 60, now - 3800):
        if job.study_uid == study:
            with db.write() as conn:
                complete(conn, job, "sender", now - 3800)
    for job in claim(db, JobKind.DELIVER, "his", "sender", 9, 60, now - 700):
        retry_later(db, job, "sender", DOWN, now + 45, now - 700)


def _give_up(db: Database, study: str, now: float) -> int:
    jobs = [job for job in claim(db, JobKind.DELIVER, "pacs", "other", 9, 60, now - 100) if job.study_uid == study]
    bury(db, jobs[0], "other", REFUSED, now - 100)
    for job in jobs[1:]:
        with db.write() as conn:
            complete(conn, job, "other", now - 90)
    return jobs[0].id
