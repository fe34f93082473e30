"""Storage commitment as SCP (PS3.4 annex J): what we promise to keep, and the report of it.

A request is committed to the database before it is answered. What is promised is what has reached the disk with the SOP class
that the peer names, on a node that does not delete it by its own rules. The report goes out over the association of the request
where the peer waits on it, else over one of our own: each is told by one of the two, who holds a claim on it in the database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from dicom_node.query.identifiers import encoded
from dicom_node.query.judging import NO_SUCH_INSTANCE, Judge
from dicom_node.query.permissions import NOT_AUTHORIZED, Permissions
from dicom_node.remote.commitment import event_of, information, is_taken, tell
from dicom_node.remote.dimse import DicomPeer
from dicom_node.storage.commitments_asked import Ask, Noted, give_up, note_ask, report_later, reported, take_due
from dicom_node.storage.database import Database

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
N_ACTION: Final = 0x0130
_INSTANCE, _ACTION_TYPE = 0x1001, 0x1008  # Requested SOP Instance UID, Action Type ID
REQUEST: Final = 1  # Action Type ID, J.3.2.1
SUCCESS: Final = 0x0000
INVALID_ARGUMENT, NO_SUCH_ACTION, DUPLICATE_TRANSACTION, UNRECOGNIZED = 0x0115, 0x0123, 0x0131, 0x0211
RESOURCE_LIMITATION: Final = 0x0213
_MOST: Final = 100_000  # objects of one request
_MOST_HERE: Final = 1000  # objects of a request that is answered on its own association: their files are looked for meanwhile
_WAIT_S: Final = 0.25  # a peer that waits for its report on this association says nothing for so long
_CLAIM_S: Final = 30.0  # for its answer there; after that the reporter tells it
_LEASE_S: Final = 300.0  # longer than a report takes
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 1800.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CommitmentService:
    """Takes requests. Implements ``ingest.services.Service``."""

    db: Database
    permissions: Permissions
    judge: Judge
    clock: Callable[[], float] = time.time
    sop_classes: frozenset[str] = frozenset({PUSH_MODEL})
    transfer_syntaxes: tuple[str, ...] = SYNTAXES
    gets: bool = False

    def serve(self, request: Request, exchange: Exchange) -> None:
        ask = self._wanted(request)
        status, claimed = (ask, False) if isinstance(ask, int) else self._note(ask)
        exchange.respond(status, elements={_ACTION_TYPE: pack("<H", REQUEST)} if status == SUCCESS else {})
        if isinstance(ask, Ask) and claimed:
            self._tell_here(ask, request, exchange)

    def _wanted(self, request: Request) -> Ask | int:
        """The request, or the status that refuses it."""
        if request.field != N_ACTION:
            return UNRECOGNIZED
        if not self.permissions.commitment(request.caller.calling_ae):
            return NOT_AUTHORIZED
        if request.elements.get(_INSTANCE, b"").decode("ascii", "replace").strip(" \0") != PUSH_MODEL_INSTANCE:
            return NO_SUCH_INSTANCE
        if request.elements.get(_ACTION_TYPE) != pack("<H", REQUEST):
            return NO_SUCH_ACTION
        return _ask(request) or INVALID_ARGUMENT

    def _note(self, ask: Ask) -> tuple[int, bool]:
        """The status, and whether the report is ours to tell for now; else the reporter tells it, or is at it."""
        short = len(ask.objects) <= _MOST_HERE
        try:
            with self.db.write() as conn:
                noted = note_ask(conn, ask, self.clock(), _CLAIM_S if short else 0.0)
        except StorageError:
            return RESOURCE_LIMITATION, False
        return (DUPLICATE_TRANSACTION if noted is Noted.ANOTHER else SUCCESS), short and noted is Noted.NEW

    def _tell_here(self, ask: Ask, request: Request, exchange: Exchange) -> None:
        """Over the association of the request, where the peer waits on it; a peer that ends it at once is called (J.3.3)."""
        if exchange.stopping or not exchange.quiet(_WAIT_S):
            self._leave(ask, self.clock())
            return
        try:
            report = self.judge.report(ask)
        except StorageError as error:
            self._leave(ask, self.clock() + _FIRST_WAIT_S, str(error))
            return
        told = encoded(information(report, _classes(ask)), request.context.transfer_syntax)
        exchange.report(event_of(report), told, PUSH_MODEL, PUSH_MODEL_INSTANCE, partial(self._heard, ask))

    def _heard(self, ask: Ask, status: int) -> None:
        """The peer's answer to a report that was told here."""
        if not is_taken(status):
            self._leave(ask, self.clock() + _FIRST_WAIT_S, f"answered the report with status 0x{status:04X}")
            return
        try:
            with self.db.write() as conn:
                reported(conn, ask)
        except StorageError as error:  # it will be told again, which does no harm
            _log.warning("a storage commitment report will be told again", calling_ae=ask.calling_ae, error=str(error))
            return
        _log.info("storage commitment reported", calling_ae=ask.calling_ae, count=len(ask.objects))

    def _leave(self, ask: Ask, when: float, why: str = "") -> None:
        """To the reporter, from ``when`` on; where that cannot be noted, from the end of our claim on."""
        try:
            with self.db.write() as conn:
                report_later(conn, ask, why, when)
        except StorageError as error:
            _log.warning("a storage commitment report waits", calling_ae=ask.calling_ae, error=str(error))


def _classes(ask: Ask) -> dict[str, str]:
    return {uid: of for of, uid in ask.objects}


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
class Reporter:
    """Reports what was asked; until the peer has taken it, or ``give_up_s`` seconds have passed.

    ``address``: where an AE title is called, as whom.
    """

    db: Database
    judge: Judge
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
            tell(peer, self.judge.report(ask), _classes(ask))
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
