"""C-MOVE and C-GET as SCP by the Study Root (PS3.4 C.4.2.3, C.4.3.3), over received studies and our own documents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack
from typing import Final

import structlog
from pydicom import Dataset

from dicom_node.errors import NodeError, PeerRefused, RemoteError, StorageError
from dicom_node.ingest.services import Exchange, Request
from dicom_node.query.finding import (
    CANCELLED,
    DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    PENDING,
    SUCCESS,
    SYNTAXES,
    UNRECOGNIZED,
)
from dicom_node.query.identifiers import Unusable, encoded, read
from dicom_node.query.permissions import NOT_AUTHORIZED, Permissions
from dicom_node.query.stored import data_set_offset
from dicom_node.query.transcoding import Transcoder
from dicom_node.remote.dimse import DicomPeer
from dicom_node.remote.matches import UNIQUE_KEYS, Level
from dicom_node.remote.sending import NATIVE, send_files
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.index import InstanceEntry, Narrow, files_of
from dicom_node.trail import Trail

STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
C_GET, C_MOVE = 0x0010, 0x0021
SUBOPERATIONS_FAILED: Final = 0xA702
UNKNOWN_DESTINATION: Final = 0xA801
SOME_FAILED: Final = 0xB000
_DESTINATION: Final = 0x0600  # Move Destination
_TELL_EVERY_S: Final = 0.5
_TAGS: Final = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.IMAGE: "00080018"}
_log = structlog.get_logger()


class Refused(Exception):  # noqa: N818 - it becomes a status
    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status, self.comment = status, comment[:64]


@dataclass(slots=True)
class _Counts:
    """Sub-operations (PS3.7 9.1.3.1, 9.1.4.1)."""

    remaining: int
    completed: int = 0
    failed: list[str] = field(default_factory=list)
    warning: int = 0
    stored: set[str] = field(default_factory=set)
    why: str = ""  # of the first that failed
    told_at: float = field(default_factory=time.monotonic)

    def note(self, sop_uid: str, status: int | None, why: str = "") -> None:
        """``why``: a plain sentence without patient data; what a peer comments is none."""
        self.remaining -= 1
        if status == SUCCESS:
            self.completed += 1
        elif status is not None and status & 0xF000 == 0xB000:
            self.warning += 1
        else:
            self.failed.append(sop_uid)
            self.why = (
                self.why or why or ("the peer answered with a failure" if status is not None else "it is not here any more")
            )
            return
        self.stored.add(sop_uid)

    def given(self, entries: Sequence[InstanceEntry]) -> list[InstanceEntry]:
        """Those that the peer has."""
        return [one for one in entries if one.sop_uid in self.stored]

    def elements(self, *, final: bool) -> dict[int, bytes]:
        counts = {0x1021: self.completed, 0x1022: len(self.failed), 0x1023: self.warning}
        if not final:
            counts[0x1020] = self.remaining
        return {number: pack("<H", min(count, 0xFFFF)) for number, count in counts.items()}

    def tell(self, exchange: Exchange) -> None:
        if time.monotonic() - self.told_at >= _TELL_EVERY_S:
            self.told_at = time.monotonic()
            exchange.respond(PENDING, elements=self.elements(final=False))

    def end(self, exchange: Exchange, request: Request, *, cancelled: bool) -> None:
        if self.failed:
            count, calling_ae = len(self.failed), request.caller.calling_ae
            _log.warning("objects could not be sent to who retrieves them", calling_ae=calling_ae, count=count, reason=self.why)
        syntax = request.context.transfer_syntax
        status = SUCCESS if not self.failed else SOME_FAILED if self.stored else SUBOPERATIONS_FAILED
        elements = self.elements(final=True)
        if cancelled:
            status, elements = CANCELLED, {**elements, 0x1020: pack("<H", min(self.remaining, 0xFFFF))}
        exchange.respond(status, _failures(self.failed, syntax) if status != SUCCESS else b"", elements=elements)


def _failures(sop_uids: Sequence[str], syntax: str) -> bytes:
    """Failed SOP Instance UID List; as many as an explicit VR of 16 bit length holds (PS3.5 7.1.2)."""
    told = Dataset()
    told.FailedSOPInstanceUIDList = list(sop_uids[:1000])
    return encoded(told, syntax)


@dataclass(frozen=True, slots=True)
class MoveService:
    """``address``: where an AE title is called, as whom. Implements ``ingest.services.Service``."""

    db: Database
    files: FileStore
    permissions: Permissions
    address: Callable[[str, str], DicomPeer | None]
    trail: Trail
    transcoder: Transcoder
    sop_classes: frozenset[str] = frozenset({STUDY_ROOT_MOVE})
    transfer_syntaxes: tuple[str, ...] = SYNTAXES
    gets: bool = False

    def serve(self, request: Request, exchange: Exchange) -> None:
        with _refusing(exchange):
            peer = self._destination(request)
            entries = _named(self.db, request)
            counts = _Counts(len(entries))
            try:
                cancelled = self._send(peer, entries, request, exchange, counts)
            finally:  # what went out is told of, however the association of the request ends
                self.trail.gave(peer.ae_title, peer.host, counts.given(entries))
            counts.end(exchange, request, cancelled=cancelled)

    def _destination(self, request: Request) -> DicomPeer:
        if request.field != C_MOVE:
            raise Refused(UNRECOGNIZED, "")
        title = request.elements.get(_DESTINATION, b"").decode("ascii", "replace").strip(" \0")
        allowed = self.permissions.move(request.caller.calling_ae)
        if not allowed:
            raise Refused(NOT_AUTHORIZED, "C-MOVE is not allowed to this AE title")
        peer = self.address(title, request.caller.called_ae) if title in allowed else None
        if peer is None:
            raise Refused(UNKNOWN_DESTINATION, "C-MOVE to this destination is not configured")
        return peer

    def _send(
        self, peer: DicomPeer, entries: Sequence[InstanceEntry], request: Request, exchange: Exchange, counts: _Counts
    ) -> bool:
        """True where the peer cancelled, or the node stops."""
        by_path = {self.files.path(one.path): one.sop_uid for one in entries}
        originator = (request.caller.calling_ae, request.message_id)

        def convert(path: Path, syntax: str) -> AbstractContextManager[Path]:
            return self.transcoder.converted(path, syntax, lambda: counts.tell(exchange))

        try:
            with closing(send_files(peer, list(by_path), originator, convert)) as outcomes:
                for sent in outcomes:
                    counts.note(by_path.pop(sent.path), sent.status, sent.reason if sent.status is None else "")
                    counts.tell(exchange)
                    if exchange.cancelled() or exchange.stopping:
                        return True
        except RemoteError as error:
            for sop_uid in by_path.values():
                counts.note(sop_uid, None, str(error))
        return False


@dataclass(frozen=True, slots=True)
class GetService:
    """Implements ``ingest.services.Service``."""

    db: Database
    files: FileStore
    permissions: Permissions
    trail: Trail
    transcoder: Transcoder
    sop_classes: frozenset[str] = frozenset({STUDY_ROOT_GET})
    transfer_syntaxes: tuple[str, ...] = SYNTAXES
    gets: bool = True

    def serve(self, request: Request, exchange: Exchange) -> None:
        with _refusing(exchange):
            if request.field != C_GET:
                raise Refused(UNRECOGNIZED, "")
            if not self.permissions.get(request.caller.calling_ae):
                raise Refused(NOT_AUTHORIZED, "C-GET is not allowed to this AE title")
            entries = _named(self.db, request)
            counts = _Counts(len(entries))
            try:
                cancelled = self._send(entries, exchange, counts)
            finally:
                self.trail.gave(request.caller.calling_ae, request.caller.host, counts.given(entries))
            counts.end(exchange, request, cancelled=cancelled)

    def _send(self, entries: Sequence[InstanceEntry], exchange: Exchange, counts: _Counts) -> bool:
        for entry in entries:
            if exchange.cancelled() or exchange.stopping:
                return True
            try:
                counts.note(entry.sop_uid, self._store(entry, exchange, counts))
            except NodeError as error:
                counts.note(entry.sop_uid, None, str(error))
            counts.tell(exchange)
        return False

    def _store(self, entry: InstanceEntry, exchange: Exchange, counts: _Counts) -> int | None:
        """None where its file is gone. Raises NodeError where the peer takes no transfer syntax in which it can be given."""
        path, named = self.files.path(entry.path), (entry.sop_class_uid, entry.sop_uid)
        taken = [one for one in exchange.contexts if one.peer_is_scp and one.abstract_syntax == entry.sop_class_uid]
        by_syntax = {one.transfer_syntax: one for one in taken}
        syntax = next((one for one in (entry.transfer_syntax, *NATIVE) if one in by_syntax), None)
        if syntax is None:
            raise PeerRefused("the peer takes neither its transfer syntax nor an uncompressed one for its SOP class")
        if syntax == entry.transfer_syntax:
            offset = data_set_offset(path)
            return exchange.store(by_syntax[syntax], *named, path, offset) if offset is not None else None
        with self.transcoder.converted(path, syntax, lambda: counts.tell(exchange)) as made:
            return exchange.store(by_syntax[syntax], *named, made, data_set_offset(made) or 0)


def _named(db: Database, request: Request) -> tuple[InstanceEntry, ...]:
    """The files that an identifier names by the unique keys of its level and those above. Raises Refused, StorageError."""
    try:
        asked = read(request.data_set, request.context.transfer_syntax)
    except Unusable as error:
        raise Refused(DOES_NOT_MATCH, str(error)) from error
    uids = {level: asked.uids(tag) for level, tag in _TAGS.items()}
    if not uids[asked.level] or any("*" in uid or "?" in uid for some in uids.values() for uid in some):
        raise Refused(DOES_NOT_MATCH, f"{UNIQUE_KEYS[asked.level]} must name what is wanted")
    below = {Level.STUDY: (Level.SERIES, Level.IMAGE), Level.SERIES: (Level.IMAGE,)}.get(asked.level, ())
    uids |= dict.fromkeys(below, ())
    with db.read() as conn:
        return files_of(conn, Narrow(uids[Level.STUDY], uids[Level.SERIES], uids[Level.IMAGE]))


@contextmanager
def _refusing(exchange: Exchange) -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        exchange.respond(refused.status, comment=refused.comment)
    except StorageError:
        exchange.respond(OUT_OF_RESOURCES, comment="The database is busy; ask again later")
