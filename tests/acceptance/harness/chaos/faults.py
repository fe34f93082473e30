"""Which faults strike when: drawn from a seed, so that a run can be repeated.

Times are scaled: an hour of a hospital's outage is ``HOUR_S`` seconds here, and the node's waits are set by the same scale.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HOUR_S: Final = 1.0
PAUSE_S: Final = 8.0  # SIGSTOP lasts longer than a lease of the scaled node


class FaultKind(StrEnum):
    """What happens. Each value is written as it is told."""

    KILL_LISTEN = "kill -9 the listener"
    KILL_WORK = "kill -9 the worker"
    KILL_DELIVER = "kill -9 the deliverer"
    KILL_NODE = "kill -9 the whole node"
    KILL_PACS = "kill -9 Orthanc"
    KILL_RECORD = "kill -9 the FHIR server"
    KILL_RIS = "kill -9 the HL7 receiver"
    KILL_DATABASE = "PostgreSQL crashes, without a checkpoint (SIGQUIT)"
    PAUSE_LISTEN = "pause the listener past its lease"
    PAUSE_WORK = "pause the worker past its lease"
    PAUSE_DELIVER = "pause the deliverer past its lease"
    CLOCK_AHEAD = "the clock leaps three hours forward, and back"
    CLOCK_BEHIND = "the clock leaps two hours back, and forward"
    DISK_FULL = "fill the node's disk"
    PACS_DAY = "Orthanc away for a day"
    RECORD_DAY = "the FHIR server away for a day"
    RIS_DAY = "the HL7 receiver away for a day"
    PACS_SLOW = "Orthanc behind a slow line"
    PACS_SILENT = "Orthanc takes connections and says nothing"
    PACS_CUT = "the line to Orthanc breaks in the middle of objects"
    PACS_WARNS = "Orthanc stores and answers 0xB000"
    PACS_FALSE_ALARM = "Orthanc stores and answers 0xA700"
    PACS_FULL = "Orthanc answers 0xA700 and stores nothing"
    PACS_PUZZLED = "Orthanc answers 0xC000, for good"
    PACS_LIES = "Orthanc answers success and loses the object"
    RECORD_REFUSES = "the FHIR server answers 503"
    RECORD_SLOW = "the FHIR server is two seconds late"
    RECORD_LIES = "the FHIR server answers success and keeps nothing"
    RECORD_CUT = "the line to the FHIR server breaks in the middle of requests"
    RIS_BUSY = "the HL7 receiver answers AR"
    RIS_SILENT = "the HL7 receiver never answers"
    RIS_FORGETS = "the HL7 receiver keeps the message and hangs up"
    SENDER_CUT = "the sender's line breaks in the middle of objects"
    SENDER_AWAY = "the sender's line is down"
    DATABASE_AWAY = "the line to PostgreSQL is cut"
    DATABASE_SILENT = "the line to PostgreSQL carries nothing"


PERMANENT: Final = frozenset({FaultKind.PACS_PUZZLED})  # a delivery that met one of these may be dead: the peer said never
NEEDS_POSTGRES: Final = frozenset({FaultKind.KILL_DATABASE, FaultKind.DATABASE_AWAY, FaultKind.DATABASE_SILENT})
LASTS: Final = {  # seconds; others: 1 to 4
    FaultKind.PACS_DAY: 24 * HOUR_S,
    FaultKind.RECORD_DAY: 24 * HOUR_S,
    FaultKind.RIS_DAY: 24 * HOUR_S,
    FaultKind.PAUSE_LISTEN: PAUSE_S,
    FaultKind.PAUSE_WORK: PAUSE_S,
    FaultKind.PAUSE_DELIVER: PAUSE_S,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """``at_s``: seconds after the start. ``lasts_s``: until it is mended (a killed process may come back)."""

    at_s: float
    kind: FaultKind
    lasts_s: float
    machine: int = 0

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.kind} (machine {self.machine + 1}) for {self.lasts_s:.1f} s"


def schedule(
    seed: int, seconds: float, kinds: Collection[FaultKind], machines: int = 1, every_s: float = 2.5
) -> tuple[Fault, ...]:
    """Faults over ``seconds``, each kind once before any comes again; the last end before the time is over where they can."""
    chance = random.Random(f"faults {seed}")
    times = [at * every_s + chance.uniform(0, every_s) for at in range(int(seconds / every_s))]
    found = [_fault(chance, at, kind, machines) for at, kind in zip(times, _order(chance, kinds, len(times)), strict=True)]
    return tuple(sorted(found, key=lambda fault: fault.at_s))


def _order(chance: random.Random, kinds: Collection[FaultKind], count: int) -> list[FaultKind]:
    drawn: list[FaultKind] = []
    while len(drawn) < count:
        drawn += _shuffled(chance, sorted(kinds))
    return sorted(drawn[:count], key=lambda kind: kind not in LASTS) if count <= len(kinds) else drawn[:count]


def _shuffled(chance: random.Random, kinds: Sequence[FaultKind]) -> list[FaultKind]:
    return chance.sample(kinds, len(kinds))


def _fault(chance: random.Random, at: float, kind: FaultKind, machines: int) -> Fault:
    return Fault(round(at, 2), kind, LASTS.get(kind) or round(chance.uniform(1, 4), 2), chance.randrange(machines))
