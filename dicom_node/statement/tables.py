"""Tables of the conformance statement, as Markdown, made of what the program itself uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from dicom_node.ingest import contexts, dimse, receive
from dicom_node.ingest.listener import ListenerSettings as Limits
from dicom_node.ingest.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_node.query import committing, finding, judging, permissions, retrieving
from dicom_node.remote import dimse as calling
from dicom_node.remote.commitment import REASONS
from dicom_node.remote.finding import FIND, GET, MOVE
from dicom_node.settings import Settings
from dicom_node.web.dicomweb_frames import KINDS
from reporting.context import DocumentKind

MADE: Final[Mapping[DocumentKind, UID]] = {
    DocumentKind.FINDINGS_SR: Comprehensive3DSRStorage,
    DocumentKind.DRAFT_SR: EnhancedSRStorage,
    DocumentKind.TEXT_SR: BasicTextSRStorage,
    DocumentKind.HEAT_MAP: SecondaryCaptureImageStorage,
    DocumentKind.HEAT_MAP_GSPS: GrayscaleSoftcopyPresentationStateStorage,
    DocumentKind.PDF: EncapsulatedPDFStorage,
}
_NATIVE: Final = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_STORE: Final = {
    receive.SUCCESS: ("Success", "the object is on the disk and in the database; or it was there already, byte for byte"),
    receive.PROCESSING_FAILURE: ("Failure", "an internal failure, recorded for the operator"),
    receive.OUT_OF_RESOURCES: ("Refused", "no room, or disk or database cannot take it now; the same may succeed later"),
    receive.DOES_NOT_MATCH: ("Error", "SOP class or instance UID differs between command and data set"),
    receive.CANNOT_PARSE: ("Error", "the data set is empty or cannot be parsed"),
    receive.ATTRIBUTE_MISSING: ("Error", "an identifying UID is missing or empty"),
    receive.MALFORMED_UID: ("Error", "an identifying UID is malformed"),
    **{code: ("Error", f"{kind.value}: only where conflicts are to be refused") for kind, code in receive.CONFLICTS.items()},
    dimse.SOP_CLASS_NOT_SUPPORTED: ("Failure", "an operation that the presentation context does not give"),
    dimse.UNRECOGNIZED_OPERATION: ("Failure", "no operation of DIMSE"),
}
_FIND: Final = {
    finding.PENDING: ("Pending", "a match; all keys are supported"),
    finding.PENDING_UNKNOWN_KEYS: ("Pending", "a match; a key is not supported and matched everything"),
    finding.SUCCESS: ("Success", "no more matches"),
    finding.CANCELLED: ("Cancel", "cancelled by the peer, or the node stops"),
    finding.OUT_OF_RESOURCES: ("Failure", "more matches than `query.most`, after those were sent; or the database is busy"),
    finding.DOES_NOT_MATCH: ("Failure", "the identifier cannot be used"),
    permissions.NOT_AUTHORIZED: ("Failure", "the AE title may not ask"),
    finding.UNRECOGNIZED: ("Failure", "another operation in this presentation context"),
}
_RETRIEVE: Final = {
    finding.PENDING: ("Pending", "sub-operations go on"),
    finding.SUCCESS: ("Success", "all were completed"),
    retrieving.SOME_FAILED: (
        "Warning",
        "some failed, or the peer takes no transfer syntax for them; named in Failed SOP Instance UID List",
    ),
    finding.CANCELLED: ("Cancel", "cancelled by the peer, or the node stops"),
    retrieving.SUBOPERATIONS_FAILED: ("Failure", "none was completed"),
    finding.OUT_OF_RESOURCES: ("Failure", "the database is busy"),
    retrieving.UNKNOWN_DESTINATION: ("Failure", "C-MOVE to a destination that the settings do not allow this peer"),
    finding.DOES_NOT_MATCH: ("Failure", "the identifier cannot be used"),
    permissions.NOT_AUTHORIZED: ("Failure", "the AE title may not ask"),
}
_COMMIT: Final = {
    committing.SUCCESS: ("Success", "the request is in the database and will be answered by N-EVENT-REPORT"),
    judging.NO_SUCH_INSTANCE: ("Failure", "not the well-known instance"),
    committing.INVALID_ARGUMENT: ("Failure", "no usable Transaction UID or references"),
    committing.NO_SUCH_ACTION: ("Failure", "an Action Type other than 1"),
    permissions.NOT_AUTHORIZED: ("Failure", "the AE title may not ask"),
    committing.DUPLICATE_TRANSACTION: ("Failure", "the Transaction UID was used before"),
    committing.RESOURCE_LIMITATION: ("Failure", "the database is busy"),
}


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [" | ".join(heads), " | ".join("---" for _ in heads), *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _named(uids: Iterable[str]) -> list[tuple[str, str]]:
    return sorted((UID(uid).name.replace(" (Retired)", ", retired"), f"`{uid}`") for uid in uids)


def _statuses(known: Mapping[int, tuple[str, str]]) -> str:
    return _table(("Status", "Meaning", "When"), ((f"0x{code:04X}", *text) for code, text in known.items()))


def _services(_: Settings) -> str:
    rows = [
        (str(Verification), "SCP, SCU"),
        (finding.STUDY_ROOT_FIND, "SCP where a peer may (`query.peers`), SCU"),
        (retrieving.STUDY_ROOT_MOVE, "SCP where a peer may, SCU"),
        (retrieving.STUDY_ROOT_GET, "SCP where a peer may, SCU"),
        *((str(one["patient"]), "SCU") for one in (FIND, MOVE, GET)),
        (str(StorageCommitmentPushModel), "SCP where a peer may, SCU"),
    ]
    return _table(("SOP class", "UID", "Role"), ((UID(uid).name, f"`{uid}`", role) for uid, role in rows))


def _made(_: Settings) -> str:
    rows = ((f"`{kind.value}`", uid.name, f"`{uid}`") for kind, uid in MADE.items())
    return _table(("Document", "SOP class", "UID"), rows)


def _storage(_: Settings) -> str:
    return _table(("SOP class", "UID"), _named(contexts.STORAGE_CLASSES))


def _syntaxes(_: Settings) -> str:
    return _table(("Transfer syntax", "UID"), _named(contexts.TRANSFER_SYNTAXES))


def _native(_: Settings) -> str:
    return _table(("Transfer syntax", "UID"), _named(_NATIVE))


def _implementation(_: Settings) -> str:
    return _table(
        ("", ""),
        (
            ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
            ("Implementation Version Name", f"`{IMPLEMENTATION_VERSION}`"),
            ("Application Context Name", "`1.2.840.10008.3.1.1.1`"),
            ("Maximum PDU received", f"{Limits().pdu} bytes as SCP, {calling.PDU_SIZE} bytes as SCU"),
            ("Asynchronous operations", "not negotiated: one operation at a time"),
        ),
    )


def _configuration(settings: Settings) -> str:
    own = settings.listener
    rows = (
        ("Our AE title", "`listener.ae_title`", own.ae_title),
        ("Port", "`listener.port`", own.port),
        ("Port for answers to storage commitment", "`commitment.port`", settings.commitment.port),
        ("Who may call", "`listener.allowed`", "nobody" if not own.allowed else f"{len(own.allowed)} entries"),
        ("Called AE title must be ours", "`listener.require_called_ae`", "yes" if own.require_called_ae else "no"),
        ("Associations at once", "`listener.max_associations`", own.max_associations),
        ("Wait for an association request (ARTIM), s", "`listener.request_timeout_s`", f"{own.request_timeout_s:g}"),
        ("Silence before an association is aborted, s", "`listener.idle_timeout_s`", f"{own.idle_timeout_s:g}"),
        ("Free space under which 0xA700 is answered, MiB", "`listener.watermark_mb`", own.watermark_mb),
        ("Further storage SOP classes", "`listener.extra_sop_classes`", len(own.extra_sop_classes)),
        ("Wait for a peer that we call, s", "`destinations.*.timeout_s`", f"{calling.DicomPeer('', 1, '', '').timeout_s:g}"),
        ("Matches of one query", "`query.most`", settings.query.most),
    )
    return _table(("What", "Setting", "Value"), rows)


def _reasons(_: Settings) -> str:
    return _table(("Failure Reason", "Meaning"), ((f"0x{code:04X}", text) for code, text in REASONS.items()))


def _frame_kinds(_: Settings) -> str:
    rows = (
        (UID(uid).name, f"`{uid}`", f"`{kinds[0]}`", ", ".join(f"`{one}`" for one in kinds[1:])) for uid, kinds in KINDS.items()
    )
    return _table(("Transfer syntax", "UID", "Media type", "Understood too"), rows)


TABLES: Final[Mapping[str, Callable[[Settings], str]]] = {
    "services": _services,
    "made": _made,
    "storage": _storage,
    "syntaxes": _syntaxes,
    "native": _native,
    "implementation": _implementation,
    "configuration": _configuration,
    "store_statuses": lambda _: _statuses(_STORE),
    "find_statuses": lambda _: _statuses(_FIND),
    "retrieve_statuses": lambda _: _statuses(_RETRIEVE),
    "commit_statuses": lambda _: _statuses(_COMMIT),
    "commit_reasons": _reasons,
    "frame_kinds": _frame_kinds,
}
