"""Sending the audit trail: in order, for as long as it takes, nothing lost. One process of all the machines does it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from dicom_node.audit.syslog import syslog_line
from dicom_node.audit.transport import Transport
from dicom_node.errors import PeerUnavailable, StorageError, describe
from dicom_node.storage.audit import AuditRow, forget_messages, waiting_messages
from dicom_node.storage.chores import drop_chore, hold_chore
from dicom_node.storage.database import Database
from dicom_node.storage.owner import host_name

_AT_ONCE: Final = 100
_POLL_S: Final = 1.0
_LEASE_S: Final = 60.0
_LONGEST_WAIT_S: Final = 300.0
SETTLE_S: Final = 5.0  # so long a connection must live on before what went over it is forgotten
_log = structlog.get_logger()


class AuditSender:
    """``settle_s``: how long what was sent over a connection is kept, to be sent again should it break."""

    def __init__(
        self,
        db: Database,
        transport: Transport,
        owner: str,
        settle_s: float = SETTLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db, self._transport, self._owner = db, transport, owner
        self._settle_s = 0.0 if transport.keeps else settle_s
        self._clock = clock
        self._sent: deque[tuple[float, list[int]]] = deque()
        self._failures = 0
        self._held, self._renew_at = False, 0.0

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set. What was sent and not yet forgotten is sent once more by the next process."""
        while not stop.is_set():
            wait = _POLL_S
            try:
                if self._mine() and self.step():
                    wait = 0.0
            except PeerUnavailable as error:
                wait = self._failed(error)
            except StorageError as error:
                _log.warning("the audit trail waits for storage", error=str(error))
            except Exception as error:  # noqa: BLE001  a trail that ended here would end in silence
                wait = self._failed(PeerUnavailable(describe(error)))
            stop.wait(wait)
        self._end()

    def _mine(self) -> bool:
        """Whether this process sends; renewed now and then, since each time is a transaction."""
        if time.monotonic() >= self._renew_at:
            self._held = hold_chore(self._db, "audit", self._owner, _LEASE_S, self._db.now())
            self._renew_at = time.monotonic() + (_LEASE_S / 4 if self._held else _POLL_S * 5)
        return self._held

    def step(self) -> bool:
        """Forget what has settled and send what waits; False when nothing waits. Raises PeerUnavailable, StorageError."""
        if self._sent and not self._transport.alive():
            self._sent.clear()  # all of it is sent again, in order
        self._forget_settled()
        after = self._sent[-1][1][-1] if self._sent else 0
        with self._db.read() as conn:
            rows = waiting_messages(conn, _AT_ONCE, after)
        if not rows:
            return False
        try:
            self._transport.send([_line(row) for row in rows])
        except PeerUnavailable:
            self._sent.clear()
            raise
        self._recovered()
        self._sent.append((self._clock(), [row.id for row in rows]))
        self._forget_settled()
        return len(rows) == _AT_ONCE

    def _forget_settled(self) -> None:
        while self._sent and self._clock() - self._sent[0][0] >= self._settle_s:
            with self._db.write() as conn:
                forget_messages(conn, self._sent[0][1])
            self._sent.popleft()

    def _failed(self, error: PeerUnavailable) -> float:
        self._failures += 1
        wait = min(2.0 ** min(self._failures - 1, 16), _LONGEST_WAIT_S)
        _log.warning("the audit trail cannot be sent; it is kept", error=str(error), seconds=wait, attempts=self._failures)
        return wait

    def _recovered(self) -> None:
        if self._failures:
            _log.warning("the audit repository is back", attempts=self._failures)
        self._failures = 0

    def _end(self) -> None:
        """An orderly stop waits for what was just sent to settle, so that it is not sent twice."""
        deadline = self._clock() + self._settle_s
        while self._sent and self._clock() < deadline and self._transport.alive():
            time.sleep(0.05)
        try:
            if self._transport.alive():
                self._forget_settled()
            drop_chore(self._db, "audit", self._owner)
        except StorageError as error:
            _log.warning("the audit trail's end could not be noted", error=str(error))
        self._transport.close()


def _line(row: AuditRow) -> bytes:
    return syslog_line(row.text, row.at, row.outcome, host_name(), os.getpid())
