"""One document to one destination, by the destination's own means. Each returns what an operator should know, or ""."""

from __future__ import annotations

from pathlib import Path

from dicom_node.remote import dimse, fhir, folder, mllp
from dicom_node.storage.results import DocumentRow


def to_dicom(peer: dimse.DicomPeer, _document: DocumentRow, content: bytes) -> str:
    """C-STORE. A warning status means stored: it is told, not sent again. Raises RemoteError."""
    status = dimse.store(peer, content)
    return f"stored with warning status 0x{status:04X}" if status else ""


def to_fhir(peer: fhir.FhirPeer, _document: DocumentRow, content: bytes) -> str:
    """POST of the transaction Bundle. Raises RemoteError."""
    fhir.post_bundle(peer, content)
    return ""


def to_hl7(peer: mllp.Hl7Peer, _document: DocumentRow, content: bytes) -> str:
    """One message over MLLP, acknowledged. Raises RemoteError."""
    mllp.send(peer, content)
    return ""


def to_folder(path: Path, document: DocumentRow, content: bytes) -> str:
    """A file named by kind and UID, so that a second delivery replaces it by itself. Raises RemoteError."""
    suffix = Path(document.path).suffix
    folder.put(path, f"{document.kind}-{document.uid}{suffix}", content)
    return ""
