"""Storage commitment as SCP (PS3.4 annex J): what we promise to keep, and the report of it.

A request is committed to the database before it is answered. What is promised is what has reached the disk with the SOP class
that the peer names, on a node that does not delete it by its own rules.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from struct import pack
from typing import Final

import structlog
from pydicom.uid import UID
from pynetdicom.dsutils import decode

from dicom_node.errors import RemoteError, SettingsError, StorageError, describe
from dicom_node.ingest.receive import valid_uid
from dicom_node.ingest.services import Exchange, Request
from dicom_node.pixels.quiet import quiet
from dicom_node.query.finding import SYNTAXES
from dicom_node.query.permissions import NOT_AUTHORIZED, Permissions
from dicom_node.remote.commitment import Report, tell
from dicom_node.remote.dimse import DicomPeer
from dicom_node.storage.commitments_asked import Ask, Held, give_up, held_objects, note_ask, report_later, reported, take_due
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
N_ACTION: Final = 0x0130
_INSTANCE, _ACTION_TYPE = 0x1001, 0x1008  # Requested SOP Instance UID, Action Type ID
REQUEST: Final = 1  # Action Type ID, J.3.2.1
SUCCESS: Final = 0x0000
PROCESSING_FAILURE, NO_SUCH_INSTANCE, CONFLICT = 0x0110, 0x0112, 0x0119  # also Failure Reasons, PS3.3 C.14.1.1
INVALID_ARGUMENT, NO_SUCH_ACTION, DUPLICATE_TRANSACTION, UNRECOGNIZED = 0x0115, 0x0123, 0x0131, 0x0211
RESOURCE_LIMITATION: Final = 0x0213
_MOST: Final = 100_000  # objects of one request
_LEASE_S: Final = 300.0  # longer than a report takes
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 1800.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CommitmentService:
    """Takes requests. Implements ``ingest.services.Service``."""

    db: Database
    permissions: Permissions
    clock: Callable[[], float] = time.time
    sop_classes: frozenset[str] = frozenset({PUSH_MODEL})
    transfer_syntaxes: tuple[str, ...] = SYNTAXES
    gets: bool = False

    def serve(self, request: Request, exchange: Exchange) -> None:
        status = self._judge(request)
        exchange.respond(status, elements={_ACTION_TYPE: pack("<H", REQUEST)} if status == SUCCESS else {})

    def _judge(self, request: Request) -> int:
        if request.field != N_ACTION:
            return UNRECOGNIZED
        if not self.permissions.commitment(request.caller.calling_ae):
            return NOT_AUTHORIZED
        if request.elements.get(_INSTANCE, b"").decode("ascii", "replace").strip(" \0") != PUSH_MODEL_INSTANCE:
            return NO_SUCH_INSTANCE
        if request.elements.get(_ACTION_TYPE) != pack("<H", REQUEST):
            return NO_SUCH_ACTION
        ask = _ask(request)
        if ask is None:
            return INVALID_ARGUMENT
        try:
            with self.db.write() as conn:
                return SUCCESS if note_ask(conn, ask, self.clock()) else DUPLICATE_TRANSACTION
        except StorageError:
            return RESOURCE_LIMITATION


def _ask(request: Request) -> Ask | None:
    """Table J.3-1; None for what is no request."""
    syntax = UID(request.context.transfer_syntax)
    try:
        with quiet():
            told = decode(BytesIO(request.data_set), syntax.is_implicit_VR, syntax.is_little_endian)
            items = told.ReferencedSOPSequence
            objects = tuple((str(one.ReferencedSOPClassUID), str(one.ReferencedSOPInstanceUID)) for one in items)
            transaction = str(told.TransactionUID)
    except Exception:  # noqa: BLE001  whatever the bytes do to the reader, they are no request
        return None
    if not 0 < len(objects) <= _MOST or not all(
        valid_uid(uid) for uid in (transaction, *(u for pair in objects for u in pair))
    ):
        return None
    return Ask(transaction, request.caller.calling_ae, request.caller.called_ae, objects)


@dataclass(frozen=True, slots=True)
class Promise:
    """What the node may promise: nothing that it acknowledges before it is durable, or deletes by its own rules."""

    received: bool
    documents: bool


@dataclass(frozen=True, slots=True)
class Reporter:
    """Reports what was asked; until the peer has taken it, or ``give_up_s`` seconds have passed.

    ``address``: where an AE title is called, as whom.
    """

    db: Database
    files: FileStore
    promise: Promise
    address: Callable[[str, str], DicomPeer | None]
    give_up_s: float
    clock: Callable[[], float] = time.time

    def run(self, stop: threading.Event, poll_s: float) -> None:
        """Until ``stop`` is set; a database that cannot be reached is waited for."""
        while not stop.wait(poll_s):
            try:
                self.step()
            except StorageError as error:
                _log.warning("storage commitment reports wait for the database", error=str(error))

    def step(self) -> int:
        """Report what is due; how many requests were tried."""
        due = take_due(self.db, _LEASE_S, self.clock())
        for ask in due:
            self._report(ask)
        return len(due)

    def _report(self, ask: Ask) -> None:
        try:
            peer = self.address(ask.calling_ae, ask.called_ae)
            if peer is None:
                raise SettingsError(f"query.addresses has no address for {ask.calling_ae}")
            tell(peer, self._judged(ask), {uid: of for of, uid in ask.objects})
        except (RemoteError, SettingsError) as error:
            self._later(ask, str(error))
            return
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001  what one peer does to us must not end the reports to the others
            self._later(ask, describe(error))
            return
        with self.db.write() as conn:
            reported(conn, ask)
        _log.info("storage commitment reported", calling_ae=ask.calling_ae, count=len(ask.objects))

    def _later(self, ask: Ask, why: str) -> None:
        now = self.clock()
        with self.db.write() as conn:
            if now - ask.asked_at > self.give_up_s:
                give_up(conn, ask, why, now)
            else:
                report_later(conn, ask, why, now + min(_FIRST_WAIT_S * 2 ** min(ask.attempts, 16), _LONGEST_WAIT_S))
        _log.warning("a storage commitment report was not taken", calling_ae=ask.calling_ae, error=why)

    def _judged(self, ask: Ask) -> Report:
        with self.db.read() as conn:
            held = held_objects(conn, [uid for _, uid in ask.objects])
        reasons = {uid: self._reason(of, held.get(uid, [])) for of, uid in ask.objects}
        kept = frozenset(uid for uid, reason in reasons.items() if reason == SUCCESS)
        return Report(ask.transaction_uid, kept, {uid: reason for uid, reason in reasons.items() if reason != SUCCESS})

    def _reason(self, sop_class_uid: str, held: Sequence[Held]) -> int:
        """SUCCESS, or why not."""
        there = [one for one in held if self.files.path(one.path).is_file()]
        if not there:
            return NO_SUCH_INSTANCE
        of_class = [one for one in there if one.sop_class_uid == sop_class_uid]
        if not of_class:
            return CONFLICT
        kept = any(self.promise.received if one.received else self.promise.documents for one in of_class)
        return SUCCESS if kept else PROCESSING_FAILURE
