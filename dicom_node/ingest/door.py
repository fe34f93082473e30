"""What all connections of a listener share: who may come in, how many are in, and the record of those that did not get on."""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from dicom_node import measures
from dicom_node.ingest.counts import Counts, OwnCounts
from dicom_node.ingest.identity import Passcodes
from dicom_node.ingest.limiter import EventLimiter
from dicom_node.ingest.policy import AssociationPolicy, Caller, Rejection
from dicom_node.ingest.receive import Receiver
from dicom_node.ingest.services import Offer
from dicom_node.storage.events import EventKind, NewEvent, Severity
from dicom_node.storage.owner import current_owner


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes; see ``listener.ListenerSettings``."""

    pdu: int
    idle_timeout_s: float
    acse_timeout_s: float


@dataclass
class Door:
    """Admits, counts and records. ``counts``: of associations, perhaps over several processes.

    ``tells_ends``: the end of each association that stored something is recorded.
    """

    policy: AssociationPolicy
    receiver: Receiver
    limits: Limits
    offer: Offer = field(default_factory=Offer)
    tls: ssl.SSLContext | None = None
    passcodes: Passcodes = field(default_factory=Passcodes)
    tells_ends: bool = False
    counts: Counts = field(default_factory=OwnCounts)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _limiter: EventLimiter = field(default_factory=EventLimiter)
    _owner: str = field(default_factory=current_owner)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def inside(self) -> int:
        """How many associations are open."""
        return self.counts.inside()

    def admit(self, caller: Caller) -> Rejection | None:
        """None lets the association in, where it counts until ``leave``."""
        with self._lock, self.counts.held():
            rejection = self.policy.judge(caller, self.counts.inside())
            self.counts.change(rejection is None)
        measures.count(measures.ASSOCIATIONS, outcome="accepted" if rejection is None else "rejected")
        return rejection

    def leave(self) -> None:
        with self._lock:
            self.counts.change(-1)

    def name_of_next(self) -> str:
        """A name for an association, unlike any other of any process; empty where none is needed."""
        return f"{self._owner}:{next(self._numbers)}" if self.tells_ends else ""

    def record(self, kind: EventKind, text: str, caller: Caller, severity: Severity = Severity.WARNING) -> None:
        """Record once a minute what happens again and again."""
        held = self._limiter.admit(f"{caller.calling_ae} {caller.host} {text}", time.monotonic())
        if held is None:
            return
        text = f"{text} ({held} more before)" if held else text
        self.receiver.record(NewEvent(kind, text, severity, calling_ae=caller.calling_ae, host=caller.host))
