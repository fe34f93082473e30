"""What leaves the node: DICOM objects are transferred, documents of other kinds exported."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from urllib.parse import urlsplit

from dicom_node.audit import events
from dicom_node.audit.auditor import Auditor
from dicom_node.audit.events import Party
from dicom_node.settings import Destination, DicomDestination, FolderDestination, Hl7Destination
from dicom_node.storage.audit import Connection
from dicom_node.storage.database import Database
from dicom_node.storage.results import DocumentRow

_DICOM: Final = ("dicom", "stow")


@dataclass(frozen=True, slots=True)
class DeliveryAudit:
    """``delivery.destination.Witness`` of one destination. ``ours``: how we call ourselves to it."""

    db: Database
    auditor: Auditor
    ours: Party
    peer: Party
    kind: str
    clock: Callable[[], float] = time.time

    def begun(self, documents: Sequence[DocumentRow]) -> None:
        if self.kind not in _DICOM:
            return
        now = self.clock()
        ordered = sorted(documents, key=lambda row: row.study_uid)
        with self.db.write() as connection:
            for study_uid, rows in groupby(ordered, key=lambda row: row.study_uid):
                some = list(rows)
                classes, uids = [row.sop_class_uid for row in some], tuple(row.uid for row in some)
                study = self.auditor.study(connection, study_uid, classes, uids)
                self.auditor.record(connection, events.begin_transferring(self.ours, self.peer, study), now)

    def delivered(self, connection: Connection, document: DocumentRow) -> None:
        uids = (document.uid,) if document.sop_class_uid else ()
        study = self.auditor.study(connection, document.study_uid, [document.sop_class_uid], uids)
        if self.kind in _DICOM:
            message = events.transferred(self.ours, self.peer, study, received=False)
        else:
            message = events.exported(self.ours, self.peer, study, self.kind)
        self.auditor.record(connection, message, self.clock())


def delivery_audit(db: Database, auditor: Auditor, name: str, wished: Destination) -> DeliveryAudit | None:
    """For one destination of the settings; None where no audit trail is kept."""
    if not auditor.kept:
        return None
    node = auditor.node
    ours = Party(node.id, (wished.calling_ae_title,), node.host) if isinstance(wished, DicomDestination) else node
    return DeliveryAudit(db, auditor, ours, _peer(name, wished), wished.kind)


def _peer(name: str, wished: Destination) -> Party:
    """No address of a web peer is told but its host: a path or a query may hold a secret."""
    if isinstance(wished, DicomDestination):
        return Party(name, (wished.ae_title,), wished.host)
    if isinstance(wished, Hl7Destination):
        return Party(name, (), wished.host)
    if isinstance(wished, FolderDestination):
        return Party(name)
    return Party(name, (), urlsplit(wished.url).hostname or "")
