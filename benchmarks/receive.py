"""Receiving, beside DCMTK, Orthanc and pynetdicom in one run on one machine.

    python benchmarks/receive.py [--quick] [--work FOLDER] [--rounds 2]

Each receiver is started anew for each cell and loaded over 127.0.0.1 with synthetic objects (CT 0.5 MB, DX 12.5 MB), each
under a UID of its own, over 1, 4, 16 and 64 associations. Shown are objects a second, the receiver's CPU seconds for each GB
(the figure that a busy machine disturbs least), the median time of an object, the memory above an idle receiver for each
association, and what 64 idle associations cost. Peers that are not installed are left out. Quote ratios within one run: the
sender takes its share of the same cores. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from receive_sender import CT, KINDS, PDU, associate, load
from receive_targets import Cell, judge, show_targets

WETREAD, OFF = "wetread", "wetread, durability off"
TWO, OFF_TWO = "wetread, 2 processes", "wetread, durability off, 2 processes"
STORESCP, ORTHANC, PYNET = "storescp --fork, best settings", "Orthanc, 128 KB PDU", "pynetdicom, default"
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_S = 3.0

PYNETDICOM = """
import sys, uuid
from pynetdicom import AE, AllStoragePresentationContexts, evt
def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(f"{sys.argv[2]}/{uuid.uuid4().hex}.dcm", enforce_file_format=True)
    return 0
ae = AE("PEER")
ae.maximum_associations = 200
ae.supported_contexts = AllStoragePresentationContexts
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, store)])
"""


def receivers(quick: bool) -> list[str]:
    found = [WETREAD, TWO, OFF, OFF_TWO]
    found += [STORESCP] if shutil.which("storescp") else []
    found += [ORTHANC] if _orthanc() and not quick else []
    return found if quick else [*found, PYNET]


def _orthanc() -> str | None:
    return shutil.which("Orthanc", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def command(receiver: str, port: int, folder: Path) -> list[str]:
    if receiver.startswith("wetread"):
        program = str(Path(__file__).parent / "receive_node.py")
        durability = "full" if receiver in (WETREAD, TWO) else "off"
        return [sys.executable, program, str(port), str(folder), durability, "2" if receiver in (TWO, OFF_TWO) else "1"]
    if receiver.startswith("storescp"):
        return ["storescp", "--fork", "+B", "-pdu", str(PDU), "-aet", "PEER", "-od", str(folder), "-uf", str(port)]
    if receiver.startswith("pynetdicom"):
        return [sys.executable, "-c", PYNETDICOM, str(port), str(folder)]
    config = {
        "Name": "peer",
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomAet": "PEER",
        "DicomPort": port,
    }
    config |= {"HttpServerEnabled": False, "DicomCheckCalledAet": False, "DicomAlwaysAllowStore": True, "Plugins": []}
    config |= {"MaximumPduLength": PDU, "DicomThreadsCount": 4}
    (folder / "orthanc.json").write_text(json.dumps(config))
    return [str(_orthanc()), str(folder / "orthanc.json")]


@contextmanager
def running(receiver: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Process ID and port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {**os.environ, "TCP_NODELAY": "1", "TMPDIR": str(folder)}  # DCMTK reads it; without, 44 ms an object
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command(receiver, port, folder), stdout=quiet, stderr=quiet, env=environment, start_new_session=True
    )
    try:
        _wait_for(port, process)
        while receiver.startswith("wetread") and not (folder / "ready").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        yield process.pid, port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"a receiver ended with status {process.returncode}: {process.args!r}")
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    raise SystemExit("a receiver did not listen within 30 s")


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MB of a process and its children, the reaped ones too."""
    cpu = resident = 0.0
    waiting = [pid]
    while waiting:
        one = Path(f"/proc/{waiting.pop()}")
        try:
            fields = (one / "stat").read_text().rpartition(")")[2].split()
            waiting += [int(child) for task in (one / "task").iterdir() for child in (task / "children").read_text().split()]
        except OSError:
            continue
        cpu += sum(map(int, fields[11:15])) / TICKS
        resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return cpu, resident


def measure(receiver: str, kind: str, associations: int, folder: Path, count: int) -> Cell:
    with running(receiver, folder) as (pid, port):
        cpu, idle = usage(pid)
        peak, over = [idle], threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                peak[0] = max(peak[0], usage(pid)[1])

        watching = threading.Thread(target=watch)
        watching.start()
        seconds, times, failed = load(port, kind, associations, max(count, associations))
        over.set()
        watching.join()
        time.sleep(1.0)  # what the receiver does afterwards counts, too
        spent = usage(pid)[0] - cpu
    gb = len(times) * KINDS[kind][1] / 1e9
    memory = (peak[0] - idle) / associations
    median = 1000 * statistics.median(times) if times else 0.0
    return Cell(receiver, kind, associations, failed, len(times) / seconds, spent / gb if gb else 0.0, median, memory)


def idle_share(receiver: str, folder: Path, associations: int = 64) -> float:
    """Of one core, for associations on which nothing happens."""
    with running(receiver, folder) as (pid, port):
        lines = [associate(port, CT)[0] for _ in range(associations)]
        time.sleep(0.5)
        before = usage(pid)[0]
        time.sleep(IDLE_S)
        share = (usage(pid)[0] - before) / IDLE_S
        for line in lines:
            line.close()
    return share


def show(cells: list[Cell], idle: dict[str, float]) -> None:
    print(f"{'receiver':37s} {'load':7s} {'objects/s':>10s} {'CPU s/GB':>9s} {'p50 ms':>8s} {'MB/assoc':>9s} failed")
    for cell in sorted(cells, key=lambda c: (c.kind, c.associations)):
        numbers = f"{cell.per_second:10.0f} {cell.cpu_s_per_gb:9.2f} {cell.p50_ms:8.2f} {cell.mb_per_association:9.2f}"
        print(f"{cell.receiver:37s} {cell.kind}×{cell.associations:<4d} {numbers} {cell.failed:6d}")
    for receiver, share in idle.items():
        print(f"{receiver:37s} 64 idle associations: {share:.1%} of a core")


def medians(cells: list[Cell]) -> list[Cell]:
    """One cell of several rounds."""
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.receiver, cell.kind, cell.associations), []).append(cell)
    names = ("per_second", "cpu_s_per_gb", "p50_ms", "mb_per_association")
    return [
        Cell(*key, sum(c.failed for c in some), *(statistics.median(getattr(c, name) for c in some) for name in names))
        for key, some in groups.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="CT over 1 and 4 associations, without the slow peers")
    parser.add_argument("--work", type=Path, help="folder for what is received; one in memory takes the disk out")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=options.work))
    loads = [("ct", 1), ("ct", 4)] if options.quick else [(k, n) for k in KINDS for n in (1, 4, 16)] + [("ct", 64)]
    cells = []
    for _ in range(options.rounds):
        for kind, associations in loads:
            for receiver in receivers(options.quick):
                slow = 8 if receiver.startswith("pynetdicom") else 1
                count = KINDS[kind][2] // slow // (4 if options.quick else 1)
                cells.append(measure(receiver, kind, associations, work / "received", count))
    idle = {receiver: idle_share(receiver, work / "received") for receiver in receivers(options.quick)}
    shutil.rmtree(work)
    found = medians(cells)
    show(found, idle)
    judged = judge(found, idle)
    show_targets(judged)
    print(json.dumps({"cells": [asdict(c) for c in found], "idle": idle, "targets": [asdict(t) for t in judged]}))


if __name__ == "__main__":
    main()
