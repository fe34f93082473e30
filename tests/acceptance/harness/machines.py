"""Several machines on one database and one file root: each the node's own processes, with an identity of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dicom_node.storage.database import Database
from dicom_node.storage.jobs import JobKind, JobState, list_jobs
from dicom_node.storage.results import documents_of, results_of
from dicom_node.storage.studies import get_study

from .chaos.entry import NAME
from .node import FINISHED, QUICK, START_S, Node, environment
from .peers import SENDER, Orthanc
from .processes import Running, free_port, wait_for

LEASE_S = 5.0


@cache
def isolation() -> tuple[str, ...]:
    """Before a command: process numbers of its own, as in a container; nothing where there are no such namespaces."""
    own = ("--pid", "--fork", "--kill-child", "--mount-proc")
    for alone in (("unshare", *own), ("unshare", "--user", "--map-root-user", *own)):
        if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0:
            return alone
    return ()


@dataclass(frozen=True, slots=True)
class Share:
    """What the machines have in common. ``keys``: the database, as node.yaml names it; ``url``: for us, past every cable."""

    data: Path
    keys: Mapping[str, Any]
    url: str


class Machine(Node):
    """``changes``: of its command line, see chaos/entry.py."""

    def __init__(self, folder: Path, share: Share, destinations: Mapping[str, Any], changes: str, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._share, self._changes = folder, share, changes
        self.port = free_port()
        self.config = folder / "node.yaml"
        tree: dict[str, Any] = {name: dict(value) for name, value in QUICK.items()}
        tree["listener"].update(port=self.port, allowed=[{"ae_title": SENDER, "hosts": ["127.0.0.1"]}])
        tree["work"].update(lease_seconds=LEASE_S, max_attempts=20)
        tree["delivery"].update(lease_seconds=LEASE_S)
        tree["pixels"] = {"decoders": 1}
        tree["commitment"] = {"port": port}
        tree.update(data=str(share.data), destinations=dict(destinations), **share.keys)
        self.config.write_text(yaml.safe_dump(tree), "utf-8")
        self._running: Running | None = None
        self._starts = 0
        self._db: Database | None = None

    def start(self, wait: bool = True) -> None:
        """Start `serve`; with ``wait`` until it answers C-ECHO."""
        self._starts += 1
        command = [*isolation(), sys.executable, "-m", NAME, self._changes, "serve", "--config", self.config]
        env = {**environment(), "WETREAD_HOST_NAME": self.folder.name}
        self._running = Running(self.folder.name, command, self.folder / f"node-{self._starts}.log", env)
        if wait:
            wait_for(f"{self.folder.name} to answer C-ECHO", self.answers, seconds=START_S)

    def parts(self) -> dict[str, int]:
        found = {}
        for pid, line in self.running.session().items():
            words = line.split()
            if NAME in words and words[0] != "unshare":
                found[words[words.index(NAME) + 2]] = pid
        return found

    def stop(self) -> int:
        """SIGTERM to `serve` itself: what isolates it passes none on."""
        os.kill(self.parts()["serve"], signal.SIGTERM)
        return self.running.process.wait(40)

    @property
    def database(self) -> Database:
        if self._db is None:
            self._db = Database.open(self._share.url)
        return self._db

    @property
    def logs(self) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.folder.glob("node-*.log")))


def wait_finished(db: Database, studies: Collection[str], seconds: float) -> float:
    """Wait until each study is read and delivered; how long it took."""
    began, waiting = time.monotonic(), set(studies)

    def finished() -> bool:
        waiting.difference_update([uid for uid in waiting if _finished(db, uid)])
        return not waiting

    try:
        wait_for(f"{len(waiting)} studies to be read and delivered", finished, seconds=seconds)
    except TimeoutError as error:
        left = {
            uid: [(j.kind.value, j.queue, j.state.value, j.last_error) for j in list_jobs(db, study_uid=uid)] for uid in waiting
        }
        raise AssertionError(f"{error}; left: {left}") from error
    return time.monotonic() - began


def _finished(db: Database, uid: str) -> bool:
    with db.read() as conn:
        study = get_study(conn, uid)
    jobs = list_jobs(db, study_uid=uid)
    read = any(job.kind is JobKind.READ and job.state is JobState.DONE for job in jobs)
    return study is not None and not study.dirty and read and all(job.state in FINISHED for job in jobs)


def faults(db: Database, studies: Collection[str], archive: Path, pacs: Orthanc | None = None) -> dict[str, Any]:
    """Studies of which there is not exactly one current result, at every destination, whole."""
    wrong = {}
    held = [path.name for path in archive.iterdir()] if archive.exists() else []
    for uid in studies:
        with db.read() as conn:
            results, documents = results_of(conn, uid), documents_of(conn, uid)
        jobs = list_jobs(db, study_uid=uid)
        found = {
            "results": len(results),
            "readings": sum(job.kind is JobKind.READ for job in jobs),
            "undone": [(job.queue, job.state.value, job.last_error) for job in jobs if job.state is not JobState.DONE],
            "in the folder": [sum(one.uid in name for name in held) for one in documents],
        }
        expected = {"results": 1, "readings": 1, "undone": [], "in the folder": [1] * len(documents)}
        if pacs is not None:
            wanted = sorted(one.uid for one in documents if one.sop_class_uid)
            found["in the PACS"] = sorted(str(one.dataset.SOPInstanceUID) for one in pacs.instances(uid, "SR"))
            expected["in the PACS"] = wanted
        if found != expected or not documents:
            wrong[uid] = {
                name: (found[name], expected[name]) for name in found if found[name] != expected[name]
            } or "no document"
    return wrong
