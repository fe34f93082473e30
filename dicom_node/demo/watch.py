"""How far each study is, seen from outside through the node's own tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from dicom_node.demo.studies import DemoStudy
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import Job, JobKind, JobState, list_jobs
from dicom_node.storage.studies import get_study


class Stage(IntEnum):
    """Where a study stands, in this order."""

    WAITING = 0  # nothing of it has arrived
    RECEIVED = 1  # instances are on the disk
    READING = 2  # a worker has it
    DELIVERING = 3  # it is read; its documents are on their way
    DELIVERED = 4  # every document is where it belongs
    FAILED = 5  # a reading or delivery was given up


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a study. ``delivered`` of ``documents`` deliveries are done."""

    stage: Stage
    instances: int = 0
    delivered: int = 0
    documents: int = 0
    error: str = ""

    @property
    def ended(self) -> bool:
        return self.stage >= Stage.DELIVERED

    @property
    def words(self) -> str:
        match self.stage:
            case Stage.RECEIVED:
                return f"received ({self.instances} {'image' if self.instances == 1 else 'images'})"
            case Stage.DELIVERING:
                return f"delivering {self.delivered} of {self.documents}"
            case Stage.DELIVERED:
                return f"delivered ({self.documents} documents)"
            case Stage.FAILED:
                return f"FAILED: {self.error}"
            case _:
                return self.stage.name.lower()


def look(db: Database, study: DemoStudy) -> Seen:
    """Where ``study`` stands now. Raises StorageError."""
    with db.read() as connection:
        row = get_study(connection, study.study_uid)
    if row is None:
        return Seen(Stage.WAITING)
    jobs = list_jobs(db, study_uid=study.study_uid, limit=1000)
    return _judge(row.instance_count, row.instance_count >= len(study.files), jobs)


def _judge(instances: int, whole: bool, jobs: tuple[Job, ...]) -> Seen:
    dead = next((job for job in jobs if job.state is JobState.DEAD), None)
    if dead is not None:
        return Seen(Stage.FAILED, instances, error=f"job {dead.id} ({dead.kind}): {dead.last_error}")
    reads = [job for job in jobs if job.kind is JobKind.READ]
    sends = [job for job in jobs if job.kind is JobKind.DELIVER]
    read = bool(reads) and all(job.state is JobState.DONE for job in reads)
    done = sum(job.state is JobState.DONE for job in sends)
    return Seen(_stage(reads, read, whole and bool(sends) and done == len(sends)), instances, done, len(sends))


def _stage(reads: list[Job], read: bool, delivered: bool) -> Stage:
    if read:
        return Stage.DELIVERED if delivered else Stage.DELIVERING
    return Stage.READING if any(job.state is JobState.LEASED for job in reads) else Stage.RECEIVED


def failed_attempts(db: Database, studies: tuple[DemoStudy, ...]) -> Iterator[str]:
    """What went wrong and is being tried again, for the reason of a demo that took too long."""
    for study in studies:
        for job in list_jobs(db, study_uid=study.study_uid, limit=1000):
            if job.state is not JobState.DONE and job.last_error:
                yield f"{study.title}: job {job.id} ({job.kind}) after {job.attempts} attempts: {job.last_error}"
