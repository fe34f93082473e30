"""What the node answers to a request for storage commitment: object by object, from what is committed (PS3.4 J.3.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dicom_node.remote.commitment import Report
from dicom_node.storage.commitments_asked import Ask, Held, held_objects
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore

KEPT: Final = 0x0000
PROCESSING_FAILURE, NO_SUCH_INSTANCE, CONFLICT = 0x0110, 0x0112, 0x0119  # Failure Reasons, PS3.3 C.14.1.1


@dataclass(frozen=True, slots=True)
class Promise:
    """What the node may promise: nothing that it acknowledges before it is durable, or deletes by its own rules."""

    received: bool
    documents: bool


@dataclass(frozen=True, slots=True)
class Judge:
    db: Database
    files: FileStore
    promise: Promise

    def report(self, ask: Ask) -> Report:
        """Raises StorageError."""
        with self.db.read() as conn:
            held = held_objects(conn, [uid for _, uid in ask.objects])
        reasons = {uid: self._reason(of, held.get(uid, [])) for of, uid in ask.objects}
        kept = frozenset(uid for uid, reason in reasons.items() if reason == KEPT)
        return Report(ask.transaction_uid, kept, {uid: reason for uid, reason in reasons.items() if reason != KEPT})

    def _reason(self, sop_class_uid: str, held: Sequence[Held]) -> int:
        """KEPT, or why not."""
        there = [one for one in held if self.files.path(one.path).is_file()]
        if not there:
            return NO_SUCH_INSTANCE
        of_class = [one for one in there if one.sop_class_uid == sop_class_uid]
        if not of_class:
            return CONFLICT
        kept = any(self.promise.received if one.received else self.promise.documents for one in of_class)
        return KEPT if kept else PROCESSING_FAILURE
