"""Messages of one reading in their order: findings that were sent before their draft must never replace the whole result."""

from __future__ import annotations

from enum import Enum, auto

from dicom_node.storage.database import Database
from dicom_node.storage.jobs import Job, JobState
from dicom_node.storage.outbox import delivery_state
from dicom_node.storage.results import load_document
from reporting.uids import is_preliminary, preliminary_uid, whole_uid


class Turn(Enum):
    NOW = auto()
    LATER = auto()  # the findings alone are on their way: whoever sends them must be done first
    NEVER = auto()  # the whole result is here, and is sent by a delivery of its own


def turn_of(db: Database, job: Job) -> Turn:
    """Whether a delivery may be sent now. Raises StorageError."""
    uid = str(job.payload["document"])
    with db.read() as connection:
        if is_preliminary(uid):
            whole = load_document(connection, whole_uid(uid))
            return Turn.NEVER if whole is not None and not whole.held else Turn.NOW
        earlier = delivery_state(connection, preliminary_uid(uid), job.queue)
    return Turn.LATER if earlier in (JobState.LEASED, JobState.AWAITING) else Turn.NOW
