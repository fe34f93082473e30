"""Storing one received object, and what to answer its sender.

Success is answered only when the file and its row have reached the disk, unless the operator has turned that off. Every
refusal is recorded with its reason.
Statuses: PS3.4 B.2.3 (storage), PS3.7 C.5.11 (processing failure).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache

import structlog

from dicom_node.errors import NodeError, StorageBusy, StorageError, describe
from dicom_node.ingest.committer import Committer, Turn
from dicom_node.ingest.header import Header, Headers, Unreadable, read_header
from dicom_node.ingest.limiter import EventLimiter
from dicom_node.ingest.part10 import file_head
from dicom_node.ingest.policy import Caller
from dicom_node.ingest.tally import Tally
from dicom_node.storage.arriving import ArrivingFile
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.identities import identity_of
from dicom_node.storage.instances import Conflict, ConflictRule, NewInstance, Outcome
from dicom_node.storage.paths import translated

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900  # the data set is not what the command announced
CANNOT_PARSE = 0xC001
ATTRIBUTE_MISSING = 0xC002
MALFORMED_UID = 0xC003
CONFLICTS = {Conflict.CONTENT: 0xC010, Conflict.STUDY: 0xC011, Conflict.PATIENT: 0xC012}  # only where they are refused

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")  # PS3.5 9.1
_COMMENT_LIMIT = 64  # VR LO
_PLENTY = 1 << 30  # bytes above the watermark; more cannot come while it is not looked
_LOOK_S = 0.1

_log = structlog.get_logger()


class Refused(NodeError):  # noqa: N818
    """The object is not stored. ``status`` goes to the sender, with ``comment`` (at most 64 characters)."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = comment


@dataclass(frozen=True, slots=True)
class Announced:
    """What the C-STORE request says of the object that follows it."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: str
    caller: Caller
    association: str = ""  # which one it is, of all processes; empty where its end will not be told

    @property
    def head(self) -> bytes:
        return file_head(self.sop_class_uid, self.sop_uid, self.transfer_syntax, self.caller.calling_ae)


@dataclass(frozen=True, slots=True)
class Answer:
    """``comment``: Error Comment (0000,0902), empty for a success."""

    status: int
    comment: str = ""


class Receiver:
    """Stores what associations receive; shared by all of them. Not ``durable``: success is answered before anything is safe.

    ``turn``: held during each transaction, where other processes write too. ``clock``: by default that of the database.
    """

    def __init__(
        self,
        db: Database,
        files: FileStore,
        watermark_bytes: int,
        clock: Callable[[], float] | None = None,
        durable: bool = True,
        conflicts: ConflictRule = ConflictRule.KEEP_BOTH,
        turn: Turn = nullcontext,
    ) -> None:
        self._db = db
        self._files = files
        self._watermark_bytes = watermark_bytes
        self._clock = clock or db.now
        self._durable = durable
        self._committer = Committer(db, files, not durable, self._clock, conflicts, turn)
        self._headers, self._tally = Headers(), Tally()
        self._limiter = EventLimiter()
        self._look_at = 0.0

    def begin(self, announced: Announced) -> ArrivingFile:
        """A place for the object's data set. Raises StorageFull at the watermark."""
        if time.monotonic() >= self._look_at:
            self._look_for_room()
        return self._files.arriving(announced.head)

    def _look_for_room(self) -> None:
        self._files.require_room(self._watermark_bytes)
        if self._files.free_bytes() > self._watermark_bytes + _PLENTY:
            self._look_at = time.monotonic() + _LOOK_S

    def ended(self, association: str, released: bool) -> None:
        """An association has ended. ``association``: by which name its objects were announced. Raises nothing."""
        self._tally.tell()
        if not association:
            return
        try:
            self._committer.end(association, released)
        except StorageError as error:
            _log.error("the end of an association is not recorded", error=str(error))

    def finish(
        self, announced: Announced, file: ArrivingFile | None, failure: StorageError | None, start: bytes = b""
    ) -> Answer:
        """Store a whole received object; ``failure`` is what stopped it on its way to the disk. Raises nothing.

        ``start``: the first bytes of the data set, as many as are at hand.
        """
        try:
            self._finish(announced, file, failure, start)
            return Answer(SUCCESS)
        except Refused as refused:
            answer = Answer(refused.status, refused.comment[:_COMMENT_LIMIT])
            self._record_refusal(announced, refused.status, refused.comment, Severity.WARNING)
        except StorageBusy as error:
            answer = Answer(OUT_OF_RESOURCES, "No room or too busy at the moment; send again later")
            self._record_wait(announced, error)
        except StorageError as error:
            answer = Answer(PROCESSING_FAILURE, "Storage failed; the operator has been told")
            self._record_refusal(announced, PROCESSING_FAILURE, str(error), Severity.ALERT)
        except Exception as error:  # noqa: BLE001 - an object must not take its association down; the sender learns of it
            _log.error("internal failure while storing an object", error=describe(error))
            answer = Answer(PROCESSING_FAILURE, "Internal failure; the operator has been told")
            self._record_refusal(announced, PROCESSING_FAILURE, f"Internal failure ({type(error).__name__})", Severity.ALERT)
        if file is not None:
            file.discard()
        self._tally.count("refused")
        return answer

    def close(self) -> None:
        """Record what has been acknowledged and not yet recorded."""
        self._committer.close()

    def record(self, event: NewEvent) -> None:
        """Record an event; when the database does not take it, it goes to the log instead."""
        try:
            with self._db.write() as conn:
                record_event(conn, event, self._clock())
        except StorageError as error:
            _log.error("event not recorded", reason=event.text, error=str(error))

    def record_failure(self, caller: Caller, text: str) -> None:
        """Record an alert about what a peer asked for."""
        self.record(NewEvent(EventKind.FAILURE, text, Severity.ALERT, calling_ae=caller.calling_ae, host=caller.host))

    def _finish(self, announced: Announced, file: ArrivingFile | None, failure: StorageError | None, start: bytes) -> None:
        if failure is not None:
            raise failure
        if file is None or file.size == 0:
            raise Refused(CANNOT_PARSE, "The data set is empty")
        header = self._header(announced, file, start)
        file.finish(self._durable)
        recorded = self._committer.commit(_instance(announced, header, file.size), file, announced.association)
        if recorded is not None and recorded.outcome is Outcome.REFUSED and recorded.conflict is not None:
            raise Refused(CONFLICTS[recorded.conflict], recorded.conflict.value)
        self._tally.count(recorded.outcome.value if recorded is not None else Outcome.STORED.value, file.size)

    def _header(self, announced: Announced, file: ArrivingFile, start: bytes) -> Header:
        try:
            syntax = announced.transfer_syntax
            kind = (announced.caller.calling_ae, announced.sop_class_uid, syntax)
            header = self._headers.of_start(start, syntax, kind)
            if header is None:
                with translated(file.path):
                    header = read_header(file.path, file.head_size, syntax)
        except Unreadable as error:
            raise Refused(CANNOT_PARSE, f"Data set: {error}") from error
        _check(header, announced)
        return header

    def _record_wait(self, announced: Announced, error: StorageBusy) -> None:
        """Once a minute for each sender, which will send all of it again: a full disk must not fill with alerts."""
        caller = announced.caller
        held = self._limiter.admit(f"{caller.calling_ae} {caller.host} {type(error).__name__}", time.monotonic())
        if held is not None:
            reason = f"{error} ({held} more before)" if held else str(error)
            self._record_refusal(announced, OUT_OF_RESOURCES, reason, Severity.ALERT)

    def _record_refusal(self, announced: Announced, status: int, reason: str, severity: Severity) -> None:
        caller = announced.caller
        text = f"Answered 0x{status:04X}: {reason}"
        uid = announced.sop_uid if valid_uid(announced.sop_uid) else ""
        self.record(
            NewEvent(EventKind.REFUSED_INSTANCE, text, severity, sop_uid=uid, calling_ae=caller.calling_ae, host=caller.host)
        )


@lru_cache(maxsize=4096)
def valid_uid(uid: str) -> bool:
    return len(uid) <= 64 and _UID.fullmatch(uid) is not None


def _check(header: Header, announced: Announced) -> None:
    named = {
        "SOP Class UID (0008,0016)": header.sop_class_uid,
        "SOP Instance UID (0008,0018)": header.sop_uid,
        "Study Instance UID (0020,000D)": header.study_uid,
        "Series Instance UID (0020,000E)": header.series_uid,
    }
    for name, uid in named.items():
        if not uid:
            raise Refused(ATTRIBUTE_MISSING, f"{name} is missing or empty")
        if not valid_uid(uid):
            raise Refused(MALFORMED_UID, f"{name} is malformed")
    if header.sop_class_uid != announced.sop_class_uid:
        raise Refused(DOES_NOT_MATCH, "SOP Class UID differs between command and data set")
    if header.sop_uid != announced.sop_uid:
        raise Refused(DOES_NOT_MATCH, "SOP Instance UID differs between command and data set")


def _instance(announced: Announced, header: Header, size: int) -> NewInstance:
    caller = announced.caller
    return NewInstance(
        sop_uid=header.sop_uid,
        sop_class_uid=header.sop_class_uid,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        transfer_syntax=announced.transfer_syntax,
        path="",
        size=size,
        sha256="",
        patient_digest=_patient_digest(header.study_uid, header.patient_id),
        calling_ae=caller.calling_ae,
        called_ae=caller.called_ae,
        host=caller.host,
        modality=_defined_term(header.modality),
        body_part=_defined_term(header.body_part),
        requested_priority=_defined_term(header.requested_priority),
        identity=identity_of(header.study_uid, header.identity),
    )


@lru_cache(maxsize=256)
def _patient_digest(study_uid: str, patient_id: str) -> str:
    """Tells patients of one study apart; bound to the study, so that it links no two studies."""
    return hashlib.sha256(f"{study_uid}\\{patient_id}".encode("utf-8", "replace")).hexdigest()


@lru_cache(maxsize=256)
def _defined_term(value: str) -> str:
    """The first value of a CS attribute (PS3.5 6.2); empty when it is none."""
    term = value.split("\\")[0].strip().upper()
    return term if re.fullmatch(r"[A-Z0-9_ ]{1,16}", term) else ""
