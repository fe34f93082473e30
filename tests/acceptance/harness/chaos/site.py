"""What the faults strike: one machine on SQLite, or two on PostgreSQL, with Orthanc, a FHIR server, an HL7 receiver, a folder.

Processes that end are started again half a second later, as systemd does (`Restart=always`); nobody else touches anything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from dicom_node.storage.database import Database

from .. import postgres
from ..node import environment
from ..peers import SENDER
from ..postgres import Postgres, PostgresDatabase
from ..processes import Running, free_port, wait_for
from .clock import Clock
from .destinations import Pacs, Peer, Record, Ris
from .entry import NAME
from .faults import HOUR_S
from .wire import Wire

RESTART_S: Final = 0.5
_APART: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
LEASE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """``machines``: 1 (SQLite) or 2 (PostgreSQL). ``changes``: of the node's command line, see entry.py.

    ``small_disk``: the data lie on a file system of ``disk_mb``, where one can be mounted, so that it can be filled.
    """

    machines: int = 1
    changes: str = ""
    small_disk: bool = True
    disk_mb: int = 96


@dataclass(frozen=True, slots=True)
class Shared:
    """The PostgreSQL server of two machines, and the node's database there."""

    server: Postgres
    database: PostgresDatabase


class Unit:
    """One process as systemd keeps it."""

    def __init__(self, name: str, command: Sequence[object], folder: Path, clock: Clock) -> None:
        self.name, self._command, self._folder, self._clock = name, tuple(command), folder, clock
        self.starts, self.hold = 0, threading.Event()
        self.running: Running | None = None

    def start(self) -> None:
        self.starts += 1
        log = self._folder / f"{self.name}-{self.starts}.log"
        self.running = Running(self.name, self._command, log, environment() | self._clock.environment)

    def part(self, name: str) -> int:
        """The process number of one part of the node, 0 where it does not run now."""
        for pid, line in (self.running.session() if self.running else {}).items():
            words = line.split()
            if words[0] != _APART[0] and NAME in words and words[words.index(NAME) + 2] == name:
                return pid
        return 0

    @property
    def logs(self) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self._folder.glob(f"{self.name}-*.log")))


class Machine:
    """The processes of one machine: `serve`, or `listen`, `work` and `deliver` each for itself."""

    def __init__(self, number: int, folder: Path, tree: dict[str, Any], changes: str, roles: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.number, self.folder = number, folder
        self.port: int = tree["listener"]["port"]
        self.wire = Wire(self.port)
        self.clock = Clock(folder)
        self.config = folder / "node.yaml"
        self.config.write_text(yaml.safe_dump(tree), "utf-8")
        program = [*(_apart() if number else ()), sys.executable, "-m", NAME, changes or "synthetic"]
        self.units = {role: Unit(role, [*program, role, "--config", self.config], folder, self.clock) for role in roles}

    def pid(self, part: str) -> int:
        """Of one part; of `listen` in a `serve` that listens itself."""
        for role, unit in self.units.items():
            found = unit.part("serve" if role == "serve" and part == "listen" else part)
            if found:
                return found
        return 0

    def strike(self, part: str, number: signal.Signals) -> bool:
        pid = self.pid(part)
        try:
            os.kill(pid, number) if pid else None
        except ProcessLookupError:
            return False
        return bool(pid)

    def kill_all(self) -> None:
        for unit in self.units.values():
            if unit.running is not None:
                unit.running.kill_session()

    @property
    def logs(self) -> str:
        return "".join(unit.logs for unit in self.units.values())


class Site:
    """Everything that runs. Made by ``site``."""

    def __init__(self, folder: Path, plan: Plan, data: Path, shared: Shared | None) -> None:
        self.folder, self.plan, self.data, self.shared = folder, plan, data, shared
        titles = [f"WETREAD{number + 1}" for number in range(plan.machines)]
        reports = {title: free_port() for title in titles}
        self.pacs, self.record = Pacs(folder / "orthanc", reports), Record(folder / "fhir")
        self.ris, self.archive = Ris(folder / "ris"), folder / "archive"
        self.database_wire = Wire(shared.server.port) if shared is not None else None
        roles = ["serve"] if plan.machines == 1 else ["listen", "work", "deliver"]
        self.machines = [
            Machine(n, folder / f"machine{n + 1}", self._settings(title, reports[title]), plan.changes, roles)
            for n, title in enumerate(titles)
        ]
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="systemd", daemon=True)
        self._db: Database | None = None

    @property
    def peers(self) -> tuple[Peer, ...]:
        return (self.pacs, self.record, self.ris)

    @property
    def database(self) -> Database:
        """The node's own, past every cable: only read here."""
        if self._db is None:
            url = self.shared.database.url if self.shared is not None else f"sqlite:///{self.data / 'wetread.sqlite'}"
            self._db = Database.open(url)
        return self._db

    def start(self) -> None:
        """All processes, and wait until each machine listens."""
        for peer in self.peers:
            peer.start()
        for machine in self.machines:
            for unit in machine.units.values():
                unit.start()
        self._keeper.start()
        try:
            for machine in self.machines:
                wait_for(f"machine {machine.number + 1} to listen", lambda m=machine: '"listening"' in m.logs, seconds=90)
            wait_for("a worker", lambda: any('"working"' in machine.logs for machine in self.machines), seconds=90)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n" + "\n".join(machine.logs[-3000:] for machine in self.machines)) from error

    def close(self) -> None:
        self._over.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for machine in self.machines:
            machine.kill_all()
            machine.wire.close()
        for peer in self.peers:
            peer.close()
        if self._db is not None:
            self._db.close()
        if self.database_wire is not None:
            self.database_wire.close()

    def _keep(self) -> None:
        """systemd's part."""
        ended: dict[str, float] = {}
        while not self._over.wait(0.1):
            for machine in self.machines:
                for unit in machine.units.values():
                    key = f"{machine.number} {unit.name}"
                    if unit.running is None or unit.running.alive or unit.hold.is_set():
                        ended.pop(key, None)
                    elif time.monotonic() - ended.setdefault(key, time.monotonic()) > RESTART_S:
                        unit.running.kill_session()  # KillMode=control-group
                        unit.start()

    def _settings(self, title: str, reports: int) -> dict[str, Any]:
        tree: dict[str, Any] = {
            "data": str(self.data),
            "listener": {
                "ae_title": "WETREAD", "port": free_port(), "watermark_mb": 8,
                "allowed": [{"ae_title": SENDER, "hosts": ["127.0.0.1"]}],
            },
            "study": {"quiet_seconds": 1.5},
            "engine": {"device": "cpu", "threads": 1},
            "pixels": {"decoders": 1},
            "work": {"lease_seconds": LEASE_S, "retry_seconds": 0.5, "max_attempts": 50},
            "delivery": {
                "first_retry_s": 0.3, "max_retry_s": 1.0, "breaker_longest_s": 1.0, "breaker_failures": 3,
                "give_up_hours": 72 * HOUR_S / 3600,
            },
            "commitment": {"port": reports, "asks": 2, "sends": 20},
            "log": {"form": "json"},
            "destinations": {
                "pacs": self.pacs.setting(title),
                "record": self.record.setting(),
                "ris": self.ris.setting(),
                "archive": {"kind": "folder", "path": str(self.archive)},
            },
        }  # fmt: skip
        if self.shared is not None and self.database_wire is not None:
            keys = self.shared.database.settings
            own, cable = (f"127.0.0.1:{port}/" for port in (self.shared.server.port, self.database_wire.port))
            tree |= {**keys, "database": keys["database"].replace(own, cable)}
        return tree


def _apart() -> tuple[str, ...]:
    """What makes the second machine see only its own processes, so that a lease of the first is to it one of another host."""
    may = subprocess.run([*_APART, "true"], capture_output=True, check=False).returncode == 0
    return _APART if may else ()


@contextmanager
def site(folder: Path, plan: Plan) -> Iterator[Site]:
    """Build and start it; nothing of it runs afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    with small_disk(folder / "data", plan.disk_mb if plan.small_disk else 0) as data, database(plan) as shared:
        made = Site(folder, plan, data, shared)
        try:
            made.start()
            yield made
        finally:
            made.close()


@contextmanager
def database(plan: Plan) -> Iterator[Shared | None]:
    """PostgreSQL for two machines; None for one."""
    if plan.machines == 1:
        yield None
        return
    with postgres.running() as server:
        yield Shared(server, server.new_database())


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """A file system of its own that can be filled, where this user may mount one; else, and for 0, a plain folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0700", "tmpfs", str(folder)]
    mounted = size_mb > 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def is_small(folder: Path) -> bool:
    """Whether the folder is a file system of its own that may be filled without harm."""
    return folder.is_mount()
