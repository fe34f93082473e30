"""What is recorded beside instances, once for each study and association: who carries it, and whose it claims to be."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dicom_node.ingest.limiter import EventLimiter
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.identities import differing
from dicom_node.storage.instances import NewInstance, Outcome, Recorded
from dicom_node.storage.senders import end_senders, note_sender

_REMEMBERED = 4096


class Carried(Protocol):
    """An instance, and the association that carried it; empty where its end will not be told."""

    @property
    def new(self) -> NewInstance: ...

    @property
    def association(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Told:
    """What a transaction has recorded, to be remembered once it is committed."""

    carried: frozenset[tuple[str, str]] = frozenset()
    claims: frozenset[tuple[str, str]] = frozenset()


@dataclass
class Company:
    """Remembers what it has recorded, so that an instance like those before costs no statement. Only one thread at a time."""

    _carried: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)
    _claims: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)
    _limiter: EventLimiter = field(default_factory=EventLimiter)

    def record(
        self,
        conn: Any,
        arrived: Sequence[tuple[Carried, Recorded]],
        endings: Sequence[tuple[str, bool]],
        now: float,
    ) -> Told:
        """``conn``: of the transaction, which what fails here ends. ``endings``: associations; true: released."""
        new = [one for one, recorded in arrived if recorded.outcome in (Outcome.STORED, Outcome.CONFLICT)]
        carried = {(one.association, one.new.study_uid) for one in new if one.association} - self._carried.keys()
        for association, study_uid in sorted(carried):
            note_sender(conn, association, study_uid, now)
        claims = {(one.new.study_uid, one.new.identity): one.new for one in new if one.new.identity}
        fresh = {claim: instance for claim, instance in claims.items() if claim not in self._claims}
        for instance in fresh.values():
            self._compare(conn, instance, now)
        end_senders(conn, endings, now)
        return Told(frozenset(carried), frozenset(fresh))

    def remember(self, told: Told) -> None:
        for memory, news in ((self._carried, told.carried), (self._claims, told.claims)):
            memory.update(dict.fromkeys(news))
            while len(memory) > _REMEMBERED:
                memory.popitem(last=False)

    def _compare(self, conn: Any, new: NewInstance, now: float) -> None:
        names = differing(conn, new.study_uid, new.identity)
        if not names or self._limiter.admit(f"{new.study_uid} {names}", time.monotonic()) is None:
            return
        text = f"Images of one study differ in {', '.join(names)}; they are read together"
        event = NewEvent(EventKind.CONFLICT, text, Severity.WARNING, new.study_uid, new.sop_uid, new.calling_ae, new.host)
        record_event(conn, event, now)
