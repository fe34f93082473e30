"""C-FIND at an archive (PS3.4 C.4.1), by the Study Root or the Patient Root."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.dimse import DicomPeer, associated
from dicom_node.remote.matches import Found, Level, Match, Query, identifier, match_of

Root = Literal["study", "patient"]
PENDING: Final = (0xFF00, 0xFF01)  # PS3.4 C.4.1.1.4
CANCELLED: Final = 0xFE00
OUT_OF_RESOURCES: Final = (0xA700, 0xA701, 0xA702)
UNDER_CANCEL: Final = 500  # answers that may still come after a cancel before the association is aborted
_MESSAGE: Final = 1
SYNTAXES: Final = [ImplicitVRLittleEndian, ExplicitVRLittleEndian]
FIND: Final[dict[Root, Any]] = {
    "study": StudyRootQueryRetrieveInformationModelFind,
    "patient": PatientRootQueryRetrieveInformationModelFind,
}
MOVE: Final[dict[Root, Any]] = {
    "study": StudyRootQueryRetrieveInformationModelMove,
    "patient": PatientRootQueryRetrieveInformationModelMove,
}
GET: Final[dict[Root, Any]] = {
    "study": StudyRootQueryRetrieveInformationModelGet,
    "patient": PatientRootQueryRetrieveInformationModelGet,
}


@dataclass(frozen=True, slots=True)
class QueryPeer:
    """An archive, and the information model by which it is asked."""

    peer: DicomPeer
    root: Root = "study"

    def __str__(self) -> str:
        return str(self.peer)


def find(archive: QueryPeer, query: Query, stop: threading.Event | None = None) -> Found:
    """What matches, at most ``query.most``; then, or when ``stop`` is set, the archive is told to cancel (C-CANCEL).

    Raises PeerUnavailable where asking again may help, PeerRefused where the archive does not answer such a query.
    """
    if query.level is Level.PATIENT and archive.root != "patient":
        raise PeerRefused(f"{archive}: the Study Root has no patient level; set `root: patient` for it")
    model = FIND[archive.root]
    with associated(archive.peer, [(model, SYNTAXES)]) as association:
        if not association.accepted_contexts:
            raise PeerRefused(f"{archive}: does not accept {model.name}")
        return _asked(archive, association, model, query, stop or threading.Event())


def _asked(archive: QueryPeer, association: Any, model: Any, query: Query, stop: threading.Event) -> Found:
    keywords = query.all_keys
    matches: list[Match] = []
    surplus = 0
    for status, answer in association.send_c_find(identifier(query), model, msg_id=_MESSAGE):
        if not _is_pending(archive, status):
            return Found(tuple(matches), surplus == 0)
        if answer is not None and len(matches) < query.most and not stop.is_set():
            matches.append(match_of(answer, keywords))
            continue
        if surplus == 0:
            association.send_c_cancel(_MESSAGE, query_model=model)
        surplus += 1
        if surplus > UNDER_CANCEL:  # it does not listen
            association.abort()
            return Found(tuple(matches), whole=False)
    return Found(tuple(matches), surplus == 0)


def _is_pending(archive: QueryPeer, status: Dataset) -> bool:
    """False for the last answer of a search that succeeded or was cancelled. Raises PeerUnavailable, PeerRefused."""
    if "Status" not in status:
        limit = archive.peer.timeout_s
        raise PeerUnavailable(f"{archive}: ended the association or gave no answer to C-FIND within {limit:g} s")
    code = int(status.Status)
    if code in PENDING:
        return True
    if code not in (0x0000, CANCELLED):
        kind = PeerUnavailable if code in OUT_OF_RESOURCES or code in (0x0110, 0x0213) else PeerRefused
        raise kind(f"{archive}: answered C-FIND with status 0x{code:04X}")
    return False
