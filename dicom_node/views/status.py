"""How the node stands: processes, queues, destinations, disk, and what needs a hand."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventRow, Severity, newest_of
from dicom_node.storage.job_counts import UNFINISHED, QueueDepth, queue_depths
from dicom_node.storage.jobs import JobKind, JobState
from dicom_node.storage.nodes import NodeRow, list_nodes
from dicom_node.storage.outbox import DestinationState, destination_states_of
from dicom_node.storage.owner import owner_alive
from dicom_node.storage.studies import count_dirty
from dicom_node.views.words import age, counted, size

STALE_S: Final = 30.0  # a process that has said nothing for so long counts as gone
NEEDED: Final = ("listen", "work", "deliver")  # without one of each, nothing comes through
_ALERTS: Final = 20
_ALERTS_SINCE_S: Final = 24 * 3600.0
_WAITS_LONG_S: Final = {0: 300.0, 10: 1800.0}  # seconds after which waiting needs a hand, by highest priority; else the last
_WAITS_LONGEST_S: Final = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the node, on this or another machine. ``alive``: it said so within the last half minute."""

    role: str
    host: str
    state: str
    version: str
    since: float
    seen_at: float
    alive: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """Readings or deliveries of one priority. Ages in seconds; ``dead`` were given up."""

    kind: str
    priority: int
    queued: int
    due: int
    leased: int
    awaiting: int
    dead: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Destination:
    """``state``: the worst of what the machines see: "closed" lets deliveries flow; "open" and "half-open" hold them back.

    ``known``: the settings name it; else nobody delivers there. ``hosts``: what each machine sees.
    """

    name: str
    kind: str
    known: bool
    state: str
    queued: int
    leased: int
    awaiting: int
    dead: int
    oldest_s: float
    hosts: tuple[DestinationState, ...]


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes. With less than ``watermark`` free, images are refused."""

    free: int
    total: int
    watermark: int

    @property
    def full(self) -> bool:
        return self.free < self.watermark


@dataclass(frozen=True, slots=True)
class Problem:
    """What needs a hand: ``what`` is wrong, and what to do about it."""

    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Times are seconds since 1970 UTC. ``receiving``: studies whose images still come. ``alerts``: of the last day."""

    at: float
    mode: str
    processes: tuple[Process, ...]
    receiving: int
    queues: tuple[Queue, ...]
    destinations: tuple[Destination, ...]
    disk: Disk
    alerts: tuple[EventRow, ...]
    problems: tuple[Problem, ...]


def look(settings: Settings, db: Database, now: float | None = None) -> NodeStatus:
    """The node as it stands. Raises StorageError."""
    at = db.now() if now is None else now
    with db.read() as conn:
        processes = processes_of(list_nodes(conn), at)
        depths = queue_depths(conn, at)
        states = destination_states_of(conn)
        alerts = newest_of(conn, Severity.ALERT, at - _ALERTS_SINCE_S, _ALERTS)
        receiving = count_dirty(conn)
    disk = disk_of(settings.data_folder, settings.listener.watermark_mb)
    queues, places = _queues(depths, at), _destinations(settings, depths, states, at)
    problems = (*_of_processes(processes), *_of_queues(queues), *_of_destinations(places), *_of_disk(disk))
    return NodeStatus(at, settings.mode.value, processes, receiving, queues, places, disk, alerts, tuple(problems))


def processes_of(rows: Sequence[NodeRow], now: float) -> tuple[Process, ...]:
    """Rows of processes of this machine that are gone count as dead at once."""
    return tuple(
        Process(r.role, r.host, r.state, r.version, r.since, r.seen_at, now - r.seen_at < STALE_S and owner_alive(r.owner))
        for r in rows
    )


def missing_roles(processes: Collection[Process]) -> tuple[str, ...]:
    alive = {one.role for one in processes if one.alive}
    return tuple(role for role in NEEDED if role not in alive)


def disk_of(folder: Path, watermark_mb: int) -> Disk:
    """Of the disk that holds ``folder``, or will hold it."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(existing)
    return Disk(usage.free, usage.total, watermark_mb << 20)


def _queues(depths: Sequence[QueueDepth], now: float) -> tuple[Queue, ...]:
    keys = sorted({(one.kind.value, one.priority) for one in depths}, key=lambda key: (key[0] != JobKind.READ.value, key[1]))
    return tuple(_queue(kind, priority, [d for d in depths if (d.kind.value, d.priority) == (kind, priority)], now)
                 for kind, priority in keys)  # fmt: skip


def _queue(kind: str, priority: int, mine: Sequence[QueueDepth], now: float) -> Queue:
    number = _by_state(mine)
    due = sum(one.due for one in mine if one.state is JobState.QUEUED)
    return Queue(
        kind, priority, number[JobState.QUEUED], due, number[JobState.LEASED], number[JobState.AWAITING],
        number[JobState.DEAD], _oldest(mine, now),
    )  # fmt: skip


def _destinations(
    settings: Settings, depths: Sequence[QueueDepth], states: Sequence[DestinationState], now: float
) -> tuple[Destination, ...]:
    outbox = [one for one in depths if one.kind is JobKind.DELIVER]
    names = sorted(set(settings.destinations) | {one.queue for one in outbox})
    return tuple(_destination(name, settings, outbox, states, now) for name in names)


def _destination(
    name: str, settings: Settings, outbox: Sequence[QueueDepth], states: Sequence[DestinationState], now: float
) -> Destination:
    mine, known = [one for one in outbox if one.queue == name], settings.destinations.get(name)
    number, hosts = _by_state(mine), tuple(one for one in states if one.destination == name)
    seen = {one.state for one in hosts}
    state = next((one for one in ("open", "half-open") if one in seen), "closed")
    return Destination(
        name, known.kind if known is not None else "", known is not None, state, number[JobState.QUEUED],
        number[JobState.LEASED], number[JobState.AWAITING], number[JobState.DEAD], _oldest(mine, now), hosts,
    )  # fmt: skip


def _by_state(depths: Sequence[QueueDepth]) -> Mapping[JobState, int]:
    return {state: sum(one.count for one in depths if one.state is state) for state in JobState}


def _oldest(depths: Sequence[QueueDepth], now: float) -> float:
    return max((now - one.oldest_created_at for one in depths if one.state in UNFINISHED), default=0.0)


def _of_processes(processes: Sequence[Process]) -> Iterator[Problem]:
    for role in missing_roles(processes):
        yield Problem(
            f"no process of the node {role}s", f"start it: `wetread serve`, or `wetread {role}` on a machine of its own"
        )


def _of_queues(queues: Sequence[Queue]) -> Iterator[Problem]:
    for one in queues:
        longest = _WAITS_LONG_S.get(one.priority, _WAITS_LONGEST_S)
        if one.kind == JobKind.READ.value and one.due and one.oldest_s > longest:
            yield Problem(
                f"a study waits for its reading for {age(one.oldest_s)}", "look at the working processes and their log"
            )
        if one.kind == JobKind.READ.value and one.dead:
            yield Problem(
                f"{counted(one.dead, 'reading was', 'readings were')} given up",
                "`wetread jobs list --state dead`, then `wetread jobs retry`",
            )


def _of_destinations(destinations: Sequence[Destination]) -> Iterator[Problem]:
    for one in destinations:
        waiting = one.queued + one.leased + one.awaiting
        if not one.known and waiting:
            yield Problem(
                f"{counted(waiting, 'document waits', 'documents wait')} for {one.name}, which the settings lack",
                "name it under `destinations`",
            )
        if one.state == "open":
            reason = next((host.last_error for host in one.hosts if host.state == "open"), "")
            yield Problem(f"{one.name} is down: {reason}", "what waits is sent when it is back; nothing is lost")
        if one.dead:
            again = f"`wetread jobs retry --destination {one.name}` when the cause is gone"
            yield Problem(f"{counted(one.dead, 'delivery', 'deliveries')} to {one.name} given up", again)


def _of_disk(disk: Disk) -> Iterator[Problem]:
    if disk.full:
        text = f"{size(disk.free)} free on the disk, less than the watermark of {size(disk.watermark)}: images are refused"
        yield Problem(text, "free room, or let retention remove more")
