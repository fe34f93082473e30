"""What ``end_to_end.py`` runs: one real node, Orthanc, and DCMTK's senders."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydicom.uid import generate_uid

from dicom_node.phantom_dicom import phantom_dx
from tests.acceptance.harness.chaos.site import Machine
from tests.acceptance.harness.peers import SENDER, Orthanc
from tests.acceptance.harness.processes import free_port, require, wait_for

QUIET_S = 1.0
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Running:
    """A node and its archive. ``steps``: the file with each step that the worker measured."""

    machine: Machine
    pacs: Orthanc
    data: Path
    steps: Path
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # process to (seconds, MB resident)

    @property
    def processes(self) -> dict[str, int]:
        """Name to process number; decoders and the like by their place."""
        session = self.machine.units["serve"].running
        assert session is not None
        named = {part: self.machine.pid(part) for part in ("listen", "work", "deliver")}
        rest = sorted(set(session.session()) - set(named.values()))
        return {**{name: pid for name, pid in named.items() if pid}, **{f"decoder {n + 1}": pid for n, pid in enumerate(rest)}}

    def sample(self, at: float) -> None:
        for name, pid in self.processes.items():
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                continue
            self.memory.setdefault(name, []).append((at, pages * PAGE / 1e6))


@contextmanager
def node(folder: Path, changes: str, load_s: float = 150) -> Iterator[Running]:
    """Start both, and wait until the models are loaded; nothing of them runs afterwards."""
    folder.mkdir(parents=True)
    pacs, steps = Orthanc(folder / "orthanc"), folder / "steps.jsonl"
    tree: dict[str, Any] = {
        "data": str(folder / "data"),
        "listener": {
            "ae_title": "WETREAD", "port": free_port(), "watermark_mb": 64,
            "allowed": [{"ae_title": SENDER, "hosts": ["127.0.0.1"]}],
        },
        "study": {"quiet_seconds": QUIET_S},
        "engine": {"device": "cpu", "threads": 1},
        "log": {"form": "json"},
        "destinations": {
            "pacs": {"kind": "dicom", "host": "127.0.0.1", "port": pacs.dicom_port, "ae_title": pacs.ae_title, "concurrency": 2}
        },
    }  # fmt: skip
    machine = Machine(0, folder / "node", tree, f"{changes},steps={steps}", ["serve"])
    try:
        pacs.start()
        machine.units["serve"].start()
        wait_for("the worker to be ready", lambda: '"working"' in machine.logs, seconds=load_s)
        wait_for("the listener", lambda: '"listening"' in machine.logs, seconds=60)
        yield Running(machine, pacs, folder / "data", steps)
    finally:
        machine.kill_all()
        machine.wire.close()
        pacs.stop()


def films(folder: Path, count: int, size: int = 512) -> list[Path]:
    """Drawn films, each a study of its own. One picture serves for all: what differs is whose it is."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = phantom_dx(7, ["pneumothorax"], size=size)
    made = []
    for _ in range(count):
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(drawn, name, generate_uid())
        drawn.file_meta.MediaStorageSOPInstanceUID = drawn.SOPInstanceUID
        drawn.PatientID = f"PHANTOM-{drawn.StudyInstanceUID[-12:]}"
        made.append(folder / f"{drawn.SOPInstanceUID}.dcm")
        drawn.save_as(made[-1], enforce_file_format=True)
    return made


def send(port: int, paths: Sequence[Path], senders: int) -> float:
    """All of them over so many associations at once; seconds. Raises where one was not taken."""
    program = require("storescu", "dcmtk")
    shares = [paths[n::senders] for n in range(senders)]
    began = time.perf_counter()
    environment = {**os.environ, "TCP_NODELAY": "1"}  # DCMTK reads it; without, 44 ms an object
    running = [
        subprocess.Popen(
            [program, "-R", "-aet", SENDER, "-aec", "WETREAD", "127.0.0.1", str(port), *map(str, share)],
            stderr=subprocess.PIPE,
            env=environment,
        )
        for share in shares
        if share
    ]
    failures = [error for process in running if (error := process.communicate()[1]) or process.returncode]
    if failures:
        raise RuntimeError(f"{len(failures)} senders failed: {failures[0][-300:]!r}")
    return time.perf_counter() - began


@contextmanager
def watched(running: Running, every_s: float = 1.0) -> Iterator[None]:
    """Sample the memory of the node's processes while the body runs."""
    over, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not over.wait(every_s):
            running.sample(time.monotonic() - began)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
