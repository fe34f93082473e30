"""The node under test, as its operator runs it: `wetread serve --config FILE`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from dicom_node.errors import RemoteError
from dicom_node.remote.dimse import DicomPeer, echo
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventRow, list_events
from dicom_node.storage.instances import InstanceRow, instances_of
from dicom_node.storage.jobs import Job, JobKind, JobState, list_jobs
from dicom_node.storage.results import DocumentRow, ResultRow, documents_of, results_of
from dicom_node.storage.studies import get_study

from .peers import SENDER
from .processes import ROOT, Running, free_port, wait_for

START_S = 120  # torch on a slow, loaded machine
FINISHED = {JobState.DONE, JobState.DEAD}
QUICK: dict[str, Any] = {
    "listener": {"ae_title": "WETREAD", "host": "127.0.0.1", "watermark_mb": 16},
    "study": {"quiet_seconds": 1.5},
    "engine": {"device": "cpu", "threads": 1},
    "work": {"lease_seconds": 10, "retry_seconds": 0.5},
    "delivery": {"first_retry_s": 0.5, "max_retry_s": 2},
    "log": {"form": "json", "level": "info"},
}


def wetread(*arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """One command of `wetread`, as a process of its own, to its end."""
    command = [sys.executable, "-m", "dicom_node.cli", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )


def environment() -> dict[str, str]:
    """Ours, without settings of another node, with compiled modules kept, and as wide as a terminal that breaks no line."""
    dropped = ("WETREAD_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


class Node:
    """A node in its own folder. It may be killed and started again: what it holds stays."""

    part = "serve"  # the command that is started

    def __init__(self, folder: Path, destinations: Mapping[str, Any] | None = None, **changes: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.config = folder / "node.yaml"
        allowed = [{"ae_title": SENDER, "hosts": ["127.0.0.1"]}]
        tree: dict[str, Any] = {name: dict(value) for name, value in QUICK.items()}
        tree["listener"].update(port=self.port, allowed=allowed)
        for name, change in changes.items():
            tree.setdefault(name, {}).update(change)
        tree.update(data="data", destinations=dict(destinations or {}))
        self.config.write_text(yaml.safe_dump(tree), "utf-8")
        self._running: Running | None = None
        self._starts = 0
        self._db: Database | None = None

    @property
    def running(self) -> Running:
        assert self._running is not None, "the node was not started"
        return self._running

    @property
    def peer(self) -> DicomPeer:
        return DicomPeer("127.0.0.1", self.port, "WETREAD", SENDER, timeout_s=10)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start and wait until it answers C-ECHO (its worker may still be loading)."""
        self._starts += 1
        command = [sys.executable, "-m", "dicom_node.cli", self.part, "--config", self.config]
        env = environment()
        self._running = running = Running("the node", command, self.folder / f"node-{self._starts}.log", env)
        wait_for("the node to answer C-ECHO", self.answers, seconds=START_S)
        running.must_live()

    def answers(self) -> bool:
        """Whether it answers C-ECHO; raises with its output where it has ended."""
        self.running.must_live()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        try:
            echo(self.peer)
        except RemoteError:
            return False
        return True

    def parts(self) -> dict[str, int]:
        """Its processes by their part: serve, work, deliver."""
        found = {}
        for pid, line in self.running.session().items():
            words = line.split()
            if "dicom_node.cli" in words:
                found[words[words.index("dicom_node.cli") + 1]] = pid
        return found

    def whole(self) -> dict[str, int]:
        """Its processes when all that a node needs run; else nothing."""
        parts = self.parts()
        return parts if {self.part, "work", "deliver"} <= parts.keys() else {}

    def wait_until_working(self) -> dict[str, int]:
        """Wait until the models are loaded; returns its processes."""
        wait_for("the worker to load its models", lambda: '"working"' in self.running.output, seconds=START_S)
        return wait_for("all three processes", self.whole, seconds=30)

    def stop(self) -> int:
        """SIGTERM; returns the exit status, and fails where any of its processes outlives it."""
        status = self.running.stop()
        left = wait_for_none(self.running.session, seconds=10)
        assert not left, f"processes outlived the node: {left}"
        return status

    def end(self) -> None:
        """Whatever its state: nothing of it runs afterwards."""
        if self._running is not None:
            self._running.kill_session()
        if self._db is not None:
            self._db.close()
            self._db = None

    @property
    def database(self) -> Database:
        """The node's own database, beside the node: only read here."""
        if self._db is None:
            self._db = Database.open(f"sqlite:///{self.data / 'wetread.sqlite'}")
        return self._db

    def jobs(self, study_uid: str, kind: JobKind | None = None) -> list[Job]:
        return list(list_jobs(self.database, kind=kind, study_uid=study_uid))

    def instances(self, study_uid: str) -> tuple[InstanceRow, ...]:
        with self.database.read() as connection:
            return instances_of(connection, study_uid, include_set_aside=True)

    def results(self, study_uid: str) -> list[dict[str, Any]]:
        """The study's readings, as saved, oldest revision first."""
        with self.database.read() as connection:
            rows: tuple[ResultRow, ...] = results_of(connection, study_uid)
        return [json.loads(row.reading_json) | {"revision": row.revision} for row in sorted(rows, key=lambda r: r.revision)]

    def documents(self, study_uid: str, revision: int | None = None) -> tuple[DocumentRow, ...]:
        with self.database.read() as connection:
            return documents_of(connection, study_uid, revision)

    def events(self, since: float = 0.0) -> tuple[EventRow, ...]:
        with self.database.read() as connection:
            return list_events(connection, limit=1000, since=since)

    def wait_settled(
        self, studies: Collection[str], *, without: Collection[str] = (), revision: int = 1, seconds: float = 240
    ) -> None:
        """Wait until each study is read at ``revision`` or later and all its deliveries, save to ``without``, are finished."""
        waiting = set(studies)

        def settled() -> bool:
            self.running.must_live()
            waiting.difference_update([uid for uid in waiting if self._settled(uid, without, revision)])
            return not waiting

        try:
            wait_for(f"{len(studies)} studies to be read and delivered", settled, seconds=seconds, every=0.5)
        except TimeoutError as error:
            left = {uid: [(j.kind.value, j.queue, j.state.value, j.last_error) for j in self.jobs(uid)] for uid in waiting}
            raise AssertionError(f"{error}; not settled: {left}\n{self.running.output[-4000:]}") from error

    def _settled(self, uid: str, without: Collection[str], revision: int) -> bool:
        with self.database.read() as connection:
            study = get_study(connection, uid)
        if study is None or study.dirty or study.revision < revision:
            return False
        jobs = [job for job in list_jobs(self.database, study_uid=uid) if job.queue not in without]
        return any(job.kind is JobKind.READ for job in jobs) and all(job.state in FINISHED for job in jobs)


def wait_for_none(probe: Callable[[], Any], *, seconds: float) -> Any:
    """The last value of ``probe``: a false one as soon as there is one, else what it is after ``seconds``."""
    end = time.monotonic() + seconds
    while (value := probe()) and time.monotonic() < end:
        time.sleep(0.2)
    return value
