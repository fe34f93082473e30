"""How a reading ends that did not succeed: tried again later, put off, buried in sight, or left to who holds its lease."""

from __future__ import annotations

import structlog

from dicom_node import measures
from dicom_node.errors import LeaseLost, StorageBusy, StorageError, describe
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import UNFINISHED_LIMIT, Job, bury, postpone, retry_later
from dicom_node.worker.options import WorkerOptions

_AGAIN_S = 1.0  # when another worker still reads an earlier revision
_log = structlog.get_logger()


def failures(job: Job) -> int:
    """How often its reading failed with a word of why; stops of the whole worker are counted by ``unfinished``."""
    return job.attempts - job.unfinished


class Endings:
    """Nothing here raises: what cannot be written down is left to its lease."""

    def __init__(self, db: Database, options: WorkerOptions, owner: str) -> None:
        self._db, self._options, self._owner = db, options, owner

    def failed(self, job: Job, error: Exception) -> None:
        """Try again later; after the last attempt once more to say that it failed; then stop, visibly."""
        if isinstance(error, LeaseLost):
            _log.warning("the lease passed to another worker; its result counts", job=job.id)
            return
        reason = describe(error)
        told = {"job": job.id, "study_uid": job.study_uid, "attempts": job.attempts, "error": reason}
        _log.error("reading failed", **told)
        measures.count(measures.STUDIES_READ, outcome="failed")
        try:
            self._settle(job, error, reason)
        except LeaseLost:
            _log.warning("the lease passed to another worker; its result counts", job=job.id)
        except StorageError as trouble:
            _log.warning("the database is busy; the study waits for its lease to run out", job=job.id, error=str(trouble))

    def _settle(self, job: Job, error: Exception, reason: str) -> None:
        now = self._db.now()
        if isinstance(error, StorageBusy):  # a full disk says nothing of the study: wait for room, however long
            postpone(self._db, job, self._owner, reason, now + self._options.retry_seconds, now)
        elif failures(job) >= self._options.max_attempts or job.unfinished >= UNFINISHED_LIMIT:
            bury(self._db, job, self._owner, reason, now)
            measures.count(measures.STUDIES_READ, outcome="dead")
        else:
            wait = self._options.retry_seconds * 2 ** failures(job)
            retry_later(self._db, job, self._owner, reason, now + wait, now)

    def not_yet(self, job: Job) -> None:
        """Put off for a moment, which costs no attempt."""
        try:
            now = self._db.now()
            postpone(self._db, job, self._owner, "an earlier revision of the study is still being read", now + _AGAIN_S, now)
        except StorageError as trouble:
            _log.warning("the study waits for its lease to run out", job=job.id, error=str(trouble))
