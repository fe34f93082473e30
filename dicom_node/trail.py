"""What peers asked of us and took away, for the audit trail (PS3.15 A.5.3.7, A.5.3.10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import structlog

from dicom_node.audit import Auditor, events
from dicom_node.audit.message import Message
from dicom_node.errors import StorageError
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.index import InstanceEntry

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trail:
    """Records nothing where no repository is configured. A database that does not take it stops no answer, and is told."""

    db: Database
    auditor: Auditor

    @classmethod
    def of(cls, settings: Settings, db: Database, files: FileStore) -> Trail:
        return cls(db, Auditor.of(settings, files))

    def asked(self, peer: str, host: str, sop_class_uid: str, content: bytes, encoding: str = "") -> None:
        """A query. ``content``: its identifier as sent, in the transfer syntax ``encoding``, or the address that was asked."""
        if not self.auditor.kept:
            return
        source = events.Party(peer, (peer,), host)
        self._record([events.query(source, self.auditor.node, sop_class_uid, content, encoding=encoding)])

    def gave(self, peer: str, host: str, given: Sequence[InstanceEntry]) -> None:
        """Objects that a peer has taken."""
        if not self.auditor.kept or not given:
            return
        receiver = events.Party(peer, (peer,), host)
        by_study = sorted(given, key=lambda one: one.study_uid)
        try:
            with self.db.read() as conn:
                studies = [
                    self.auditor.study(conn, uid, [one.sop_class_uid for one in some], tuple(one.sop_uid for one in some))
                    for uid, of in groupby(by_study, key=lambda one: one.study_uid)
                    for some in [list(of)]
                ]
        except StorageError as error:
            _log.error("what a peer took is not in the audit trail", error=str(error))
            return
        self._record([events.transferred(self.auditor.node, receiver, study, received=False) for study in studies])

    def _record(self, messages: Sequence[Message]) -> None:
        try:
            with self.db.write() as conn:
                for message in messages:
                    self.auditor.record(conn, message, self.db.now())
        except StorageError as error:
            _log.error("what a peer asked is not in the audit trail", error=str(error))
