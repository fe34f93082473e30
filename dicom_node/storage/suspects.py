"""What a worker that must end says of the studies it holds, so that the one which is at fault harms no other again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import update

from dicom_node.storage.bell import READ_TOPIC, announce
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.jobs import UNFINISHED_LIMIT, Job, JobState
from dicom_node.storage.tables import jobs

_PROVEN: Final = 2  # claims in a row that ended without a word, the last of them alone: the study is what ends workers


def free_suspects(db: Database, owner: str, at_work: Collection[Job], text: str, now: float) -> None:
    """Free all leases of ``owner``, with an alert. Each study is read alone next.

    ``at_work``: what its last step worked on. A study that was alone in it, and not for the first time, is only refused when
    it comes up again.
    """
    with db.write() as conn:
        held = (jobs.c.lease_owner == owner, jobs.c.state == JobState.LEASED.value)
        for job in at_work if len(at_work) == 1 else ():
            if job.unfinished >= _PROVEN:
                conn.execute(update(jobs).where(*held, jobs.c.id == job.id).values(unfinished=UNFINISHED_LIMIT - 1))
        free = {"state": JobState.QUEUED.value, "lease_owner": "", "lease_until": 0.0}
        conn.execute(update(jobs).where(*held).values(**free))
        study = next(iter(at_work)).study_uid if len(at_work) == 1 else ""
        record_event(conn, NewEvent(EventKind.FAILURE, text, Severity.ALERT, study_uid=study), now)
        announce(conn, READ_TOPIC)
