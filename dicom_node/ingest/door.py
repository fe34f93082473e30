"""What all connections of a listener share: who may come in, how many are in, and the record of those that did not get on."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field

from dicom_node.ingest.identity import Passcodes
from dicom_node.ingest.limiter import EventLimiter
from dicom_node.ingest.policy import AssociationPolicy, Caller, Rejection
from dicom_node.ingest.receive import Receiver
from dicom_node.storage.events import EventKind, NewEvent, Severity


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes; see ``listener.ListenerSettings``."""

    pdu: int
    idle_timeout_s: float
    acse_timeout_s: float


@dataclass
class Door:
    """Admits, counts and records."""

    policy: AssociationPolicy
    receiver: Receiver
    limits: Limits
    extra_sop_classes: frozenset[str] = frozenset()
    tls: ssl.SSLContext | None = None
    passcodes: Passcodes = field(default_factory=Passcodes)
    _inside: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _limiter: EventLimiter = field(default_factory=EventLimiter)

    @property
    def inside(self) -> int:
        """How many associations are open."""
        return self._inside

    def admit(self, caller: Caller) -> Rejection | None:
        """None lets the association in, where it counts until ``leave``."""
        with self._lock:
            rejection = self.policy.judge(caller, self._inside)
            self._inside += rejection is None
        return rejection

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1

    def record(self, kind: EventKind, text: str, caller: Caller, severity: Severity = Severity.WARNING) -> None:
        """Record once a minute what happens again and again."""
        held = self._limiter.admit(f"{caller.calling_ae} {caller.host} {text}", time.monotonic())
        if held is None:
            return
        text = f"{text} ({held} more before)" if held else text
        self.receiver.record(NewEvent(kind, text, severity, calling_ae=caller.calling_ae, host=caller.host))
