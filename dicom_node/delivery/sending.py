"""Documents to one destination, by the destination's own means."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dicom_node.delivery.destination import Answer, Parcel
from dicom_node.delivery.notice import notice
from dicom_node.errors import PeerRefused, RemoteError
from dicom_node.remote import bucket, dimse, folder, mllp, stow, webhook
from dicom_node.remote.fhir_delivery import FhirServer
from dicom_node.remote.http import HttpPeer
from dicom_node.storage.commitments import StoredObject
from dicom_node.storage.database import Database
from dicom_node.storage.results import DocumentRow, load_result
from reporting.uids import is_preliminary, whole_uid


@dataclass(frozen=True, slots=True)
class Webhook:
    """``secret``: the file with the key of the signature. ``study``: how the study is named. ``links``: name to template."""

    peer: HttpPeer
    secret: Path
    study: Literal["digest", "uid"] = "digest"
    links: Mapping[str, str] | None = None


def to_dicom(peer: dimse.DicomPeer, parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
    """C-STORE over one association. A warning status means stored: it is told, not sent again. Raises RemoteError."""
    outcomes = dimse.store_many(peer, [parcel.content for parcel in parcels])
    for parcel, one in zip(parcels, outcomes, strict=False):  # fewer where the peer ended the association
        note = f"stored with status 0x{one.status:04X}" if one.status and not one.error else ""
        stored = None if one.error else StoredObject(one.sop_class_uid, one.sop_uid)
        yield Answer(parcel, one.error, note, stored)


def to_stow(peer: HttpPeer, confirm: bool, parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
    """STOW-RS, in one request; each object has its own answer. ``confirm``: and is looked for then. Raises RemoteError."""
    outcomes = stow.store(peer, [parcel.content for parcel in parcels])
    for parcel, one in zip(parcels, outcomes, strict=True):
        error = one.error or (stow.missing(peer, parcel.content) if confirm else None)
        yield Answer(parcel, error, one.note)


def to_webhook(hook: Webhook, db: Database, parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
    """A signed notice of the study that each document is about, never the document. Raises RemoteError."""
    secret = webhook.read_secret(hook.peer, hook.secret)
    for parcel in parcels:
        row = parcel.document
        with db.read() as connection:
            result = load_result(connection, row.study_uid, row.revision, row.reading_name)
        if result is None:
            yield Answer(parcel, PeerRefused(f"document {row.uid} has no result to tell of"))
            continue
        body = notice(result, secret, hook.study, hook.links or {})
        try:
            webhook.post(hook.peer, secret, parcel.key, body)
        except RemoteError as error:
            yield Answer(parcel, error)
            continue
        yield Answer(parcel)


def to_fhir(server: FhirServer, document: DocumentRow, content: bytes) -> str:
    """The Bundle as the server takes it; what it does not take is told. Raises RemoteError."""
    return server.deliver(content, preliminary=is_preliminary(document.uid))


def to_hl7(peer: mllp.Hl7Peer, _document: DocumentRow, content: bytes) -> str:
    """One message over MLLP, acknowledged. Raises RemoteError."""
    mllp.send(peer, content)
    return ""


def to_folder(path: Path, document: DocumentRow, content: bytes) -> str:
    """A file named by kind and UID, so that a second delivery replaces it by itself. Raises RemoteError."""
    folder.put(path, _name(document), content)
    return ""


def to_bucket(where: bucket.Bucket, document: DocumentRow, content: bytes) -> str:
    """An object named as in a folder. Raises RemoteError."""
    bucket.put(where, _name(document), content)
    return ""


def _name(document: DocumentRow) -> str:
    """The whole message takes the place of the one that was sent before its draft."""
    return f"{document.kind}-{whole_uid(document.uid)}{Path(document.path).suffix}"
