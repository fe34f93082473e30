"""Writing audit messages: who reports, and how a study and its patient are named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.tag import Tag

from dicom_node.audit import events
from dicom_node.audit.events import Party, Study
from dicom_node.audit.message import Message, Source, to_xml
from dicom_node.pixels.quiet import quiet
from dicom_node.settings import Settings
from dicom_node.storage.audit import Connection, add_message, paths_of, patient_digest_of, sop_classes_of
from dicom_node.storage.files import FileStore
from dicom_node.storage.owner import host_name
from dicom_node.version import software_version

_PATIENT_ID = Tag("PatientID")


@dataclass(frozen=True, slots=True)
class Auditor:
    """``pseudonyms``: patients are named by a digest in place of their Patient ID. Not ``kept``: every call does nothing."""

    node: Party
    source: Source
    files: FileStore
    pseudonyms: bool = False
    kept: bool = True

    @classmethod
    def of(cls, settings: Settings, files: FileStore) -> Auditor:
        """As the settings say; without a repository no trail is kept."""
        wished = settings.audit
        host, title = host_name(), settings.listener.ae_title
        source = Source(wished.source_id or f"{title}@{host}", wished.site_id or settings.documents.institution)
        node = Party(f"wetread {software_version()} process {os.getpid()}", (title,), host)
        return cls(node, source, files, wished.patient == "pseudonym", wished.repository is not None)

    def record(self, connection: Connection, message: Message, now: float) -> None:
        """Write a message in the caller's transaction: it is kept exactly when the act is. Raises StorageError."""
        if self.kept:
            add_message(connection, to_xml(message, now, self.source), message.outcome, now)

    def study(self, connection: Connection, study_uid: str, sop_classes: Sequence[str], uids: tuple[str, ...] = ()) -> Study:
        """A study as messages name it."""
        return Study(study_uid, self._patient(connection, study_uid), events.counted(sop_classes), uids)

    def removed(self, connection: Connection, study_uid: str, what: str, uids: tuple[str, ...], now: float) -> None:
        """Retention is about to remove a study's images ("study") or some of its documents. ``keeping.purge.Witness``."""
        if not self.kept:
            return
        patient = self._patient(connection, study_uid)
        if what == "study":
            held = Study(study_uid, patient, sop_classes_of(connection, study_uid))
            self.record(connection, events.study_deleted(self.node, held), now)
        else:
            self.record(connection, events.instances_deleted(self.node, Study(study_uid, patient, {}, uids)), now)

    def _patient(self, connection: Connection, study_uid: str) -> str:
        """The Patient ID, looked up in a file of the study, since no other table holds it; else the pseudonym."""
        if not self.kept:
            return ""
        pseudonym = f"pseudonym {patient_digest_of(connection, study_uid)[:16]}".strip()
        if self.pseudonyms:
            return pseudonym
        found = (_patient_id(self.files.path(path)) for path in paths_of(connection, study_uid))
        return next(filter(None, found), pseudonym)


def _patient_id(path: Path) -> str:
    try:
        with quiet():
            header = dcmread(path, stop_before_pixels=True, specific_tags=[_PATIENT_ID], force=True)
        return str(header.get("PatientID") or "").strip()
    except Exception:  # noqa: BLE001  whatever a header does to the reader, the event is recorded
        return ""
