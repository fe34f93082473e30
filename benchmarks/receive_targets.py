"""What the node must reach beside the peers of one run of ``receive.py``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CPU_OF_STORESCP = {"ct": 1.0, "dx": 0.8}


@dataclass(frozen=True)
class Cell:
    """One receiver under one load. Times in ms, memory in MB."""

    receiver: str
    kind: str
    associations: int
    failed: int
    per_second: float
    cpu_s_per_gb: float
    p50_ms: float
    mb_per_association: float


@dataclass(frozen=True)
class Target:
    """``found`` must be at most, or at least, ``wanted``."""

    name: str
    found: float
    sign: str
    wanted: float

    @property
    def met(self) -> bool:
        return self.found <= self.wanted if self.sign == "≤" else self.found >= self.wanted


Cells = dict[tuple[str, str, int], Cell]


def judge(cells: list[Cell], idle: dict[str, float]) -> list[Target]:
    """The targets that this run can tell of. Of the node with one process and with two, the better counts in each figure."""
    by = {(c.receiver, c.kind, c.associations): c for c in cells}
    loads = sorted({(c.kind, c.associations) for c in cells})
    return [*_beside_storescp(by, loads), *_beside_others(by, loads), *_alone(cells, idle)]


def _durable(by: Cells, load: tuple[str, int]) -> list[Cell]:
    return [by[(name, *load)] for name in ("wetread", "wetread, 2 processes") if (name, *load) in by]


def _off(by: Cells, load: tuple[str, int]) -> list[Cell]:
    return [c for (receiver, *at), c in by.items() if receiver.startswith("wetread, durability off") and tuple(at) == load]


def _beside_storescp(by: Cells, loads: list[tuple[str, int]]) -> Iterator[Target]:
    for load in loads:
        peer, ours = by.get(("storescp --fork, best settings", *load)), _off(by, load)
        if peer is None or not ours or load[1] > 16:
            continue
        name = f"{load[0].upper()} × {load[1]}"
        cpu = min(c.cpu_s_per_gb for c in ours) / peer.cpu_s_per_gb
        yield Target(f"{name}: CPU s/GB against storescp", cpu, "≤", CPU_OF_STORESCP[load[0]])
        yield Target(f"{name}: objects/s against storescp", max(c.per_second for c in ours) / peer.per_second, "≥", 1.0)


def _beside_others(by: Cells, loads: list[tuple[str, int]]) -> Iterator[Target]:
    for load in loads:
        durable, name = _durable(by, load), f"{load[0].upper()} × {load[1]}"
        orthanc, pynetdicom = by.get(("Orthanc, 128 KB PDU", *load)), by.get(("pynetdicom, default", *load))
        if durable and orthanc and load[1] in (4, 64):
            best = max(c.per_second for c in durable)
            yield Target(f"{name}, durable: objects/s against Orthanc", best / orthanc.per_second, "≥", 1.5)
        if pynetdicom and load == ("ct", 4):
            best = max(c.per_second for c in _off(by, load))
            yield Target(f"{name}: objects/s against pynetdicom", best / pynetdicom.per_second, "≥", 20.0)


def _alone(cells: list[Cell], idle: dict[str, float]) -> Iterator[Target]:
    ours = [c for c in cells if c.receiver.startswith("wetread")]
    yield Target("failures, all cells", float(sum(c.failed for c in ours)), "≤", 0.0)
    yield Target("MB for each association, most", max(c.mb_per_association for c in ours if c.associations > 1), "≤", 1.0)
    for cell in ours:
        if (cell.receiver, cell.kind, cell.associations) == ("wetread, durability off", "ct", 1):
            yield Target("CT × 1: median ms of an object", cell.p50_ms, "≤", 1.0)
    share = max(value for receiver, value in idle.items() if receiver.startswith("wetread"))
    yield Target("64 idle associations, % of a core", 100 * share, "≤", 1.0)


def show_targets(targets: list[Target]) -> None:
    for one in targets:
        print(f"{'met   ' if one.met else 'MISSED'} {one.name:48s} {one.found:8.2f} {one.sign} {one.wanted:g}")
