"""One worker and two, on SQLite and on PostgreSQL; how soon a worker begins; what an idle node costs.

    python benchmarks/workers.py [--quick] [--work FOLDER]

The workers are the node's own processes with a synthetic engine, which takes a fixed time for a study without using the
processor, as a GPU would. All studies are queued at once when the workers are ready; the time runs to the last commit. A
worker's start is timed from another process's commit to the claim. The idle cost, not with --quick, is the processor time of a
whole `serve` that has nothing to do. PostgreSQL is left out where its programs or psycopg are not installed. Quote ratios
within one run. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from dicom_node.phantom_dicom import phantom_dx
from dicom_node.storage.bell import READ_TOPIC
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.jobs import JobKind, JobState, NewJob, claim, complete, enqueue, list_jobs
from dicom_node.storage.nodes import list_nodes
from tests.acceptance.harness.chaos.entry import NAME
from tests.acceptance.harness.node import environment
from tests.acceptance.harness.postgres import running
from tests.acceptance.harness.processes import Running, free_port, wait_for

TICKS = os.sysconf("SC_CLK_TCK")
ENGINE_S = 0.6  # of a study; far above what the processor does for it
BATCH = 1  # studies of a claim: with more, the end of so short a run would be uneven
READING = "chest_xray"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything: for a test that it runs")
    parser.add_argument("--work", type=Path, help="where the data lie meanwhile; default: a temporary folder")
    options = parser.parse_args()
    studies, samples, idle_s = (8, 10, 0.0) if options.quick else (40, 60, 30.0)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.work) as folder, _servers(Path(folder)) as databases:
        for name, keys in databases.items():
            figures[name] = _measure(Path(folder) / name, keys, studies, samples, idle_s)
            _show(name, figures[name])
    print(json.dumps(figures))


@contextmanager
def _servers(folder: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Keys of node.yaml for each database there is here."""
    sqlite = {"database": f"sqlite:///{folder / 'node.sqlite'}"}
    try:
        server = running()
        with server as postgres:
            yield {"sqlite": sqlite, "postgresql": postgres.new_database().settings}
    except BaseException as reason:
        if type(reason).__name__ != "Skipped":
            raise
        print(f"PostgreSQL is left out: {reason}")
        yield {"sqlite": sqlite}


def _measure(folder: Path, keys: dict[str, Any], studies: int, samples: int, idle_s: float) -> dict[str, Any]:
    folder.mkdir()
    config = _settings(folder, keys)
    with closing(_open(keys)) as db:
        found: dict[str, Any] = {"engine_s": ENGINE_S, "studies": studies}
        for workers in (1, 2):
            found[f"studies_per_s_{workers}"] = round(_throughput(db, folder, config, workers, studies), 3)
        found["ratio_2_to_1"] = round(found["studies_per_s_2"] / found["studies_per_s_1"], 2)
        found["start_ms_p50"], found["start_ms_p95"] = _start_latency(db, keys, samples)
        if idle_s:
            found["idle_percent_of_a_core"] = _idle(db, folder, config, idle_s)
    return found


def _settings(folder: Path, keys: dict[str, Any]) -> Path:
    config = folder / "node.yaml"
    peers = [{"ae_title": "SENDER", "hosts": ["127.0.0.1"]}]
    tree = {
        **keys,
        "data": str(folder / "data"),
        "listener": {"port": free_port(), "allowed": peers, "watermark_mb": 1},
        "destinations": {"archive": {"kind": "folder", "path": str(folder / "archive")}},
        "work": {"batch": BATCH},
        "pixels": {"decoders": 1},
        "log": {"form": "json"},
    }
    config.write_text(yaml.safe_dump(tree), "utf-8")
    return config


def _open(keys: dict[str, Any]) -> Database:
    file = keys.get("database_password_file")
    return Database.open(keys["database"], password=Path(file).read_text().strip() if file else "")


def _throughput(db: Database, folder: Path, config: Path, workers: int, studies: int) -> float:
    """Studies a second, from the moment they are queued to the last commit."""
    jobs = [_received(db, FileStore(folder / "data"), f"1.2.{workers}.{number}") for number in range(1, studies + 1)]
    with _processes(folder, config, ["work"] * workers):
        wait_for("the workers", lambda: _ready(db, "work") == workers, seconds=120)
        began = time.monotonic()
        with db.write() as conn:
            for job in jobs:
                enqueue(conn, job, db.now())
        wait_for("all studies", lambda: not _unfinished(db), seconds=600, every=0.05)
        took = time.monotonic() - began
    dead = list_jobs(db, state=JobState.DEAD)
    assert not dead, dead[0].last_error
    return studies / took


def _received(db: Database, files: FileStore, study_uid: str) -> NewJob:
    """One small film in the store, and the job that reads it."""
    film = phantom_dx(7, (), patient_id="PHANTOM", study_uid=study_uid, instance_number=1)
    spool = files.spool(b"")
    film.save_as(spool.path, enforce_file_format=True)
    kept = spool.keep(study_uid, str(film.SOPInstanceUID))
    new = NewInstance(
        str(film.SOPInstanceUID), str(film.SOPClassUID), str(film.SeriesInstanceUID), study_uid,
        str(film.file_meta.TransferSyntaxUID), kept.path, kept.size, kept.sha256, "p" * 64, modality="DX",
    )  # fmt: skip
    with db.write() as conn:
        record_instance(conn, new, db.now())
        conn.exec_driver_sql("UPDATE studies SET dirty = FALSE, revision = 1")
    payload = {"reading": READING, "revision": 1, "destinations": [], "route": "", "documents": []}
    return NewJob(JobKind.READ, "read", f"read:{study_uid}:1:{READING}", study_uid, payload)


def _unfinished(db: Database) -> bool:
    states = (JobState.QUEUED, JobState.LEASED)
    return any(list_jobs(db, kind=JobKind.READ, state=state, limit=1) for state in states)


def _ready(db: Database, role: str) -> int:
    with db.read() as conn:
        return sum(row.role == role and row.state == "ready" for row in list_nodes(conn))


@contextmanager
def _processes(folder: Path, config: Path, roles: list[str]) -> Iterator[list[Running]]:
    made = []
    for number, role in enumerate(roles):
        command = [sys.executable, "-m", NAME, f"seconds={ENGINE_S}", role, "--config", config]
        made.append(Running(role, command, folder / f"{role}-{number}-{len(roles)}.log", environment()))
    try:
        yield made
    finally:
        for process in made:
            process.stop()


def _start_latency(db: Database, keys: dict[str, Any], samples: int) -> tuple[float, float]:
    """Milliseconds from another process's commit to our claim, median and 95th percentile."""
    bell, waits, stop = db.bell(READ_TOPIC), [], threading.Event()
    child = multiprocessing.get_context("spawn").Process(target=_commit_some, args=(keys, samples))
    child.start()
    while len(waits) < samples:
        seen = bell.rung
        for job in claim(db, JobKind.READ, "read", "benchmark", 1, 60.0, db.now()):
            waits.append(1000 * (time.time() - json.loads(job.payload["at"])))
            with db.write() as conn:
                complete(conn, job, "benchmark", db.now())
        bell.wait(seen, 1.0, stop)
    child.join()
    return round(statistics.median(waits), 1), round(sorted(waits)[int(0.95 * len(waits))], 1)


def _commit_some(keys: dict[str, Any], samples: int) -> None:
    with closing(_open(keys)) as db:
        for number in range(samples):
            time.sleep(0.12)
            payload = {"at": json.dumps(time.time())}
            with db.write() as conn:
                enqueue(conn, NewJob(JobKind.READ, "read", f"start:{number}", "1.9", payload), db.now())


def _idle(db: Database, folder: Path, config: Path, seconds: float) -> float:
    """Of all processes of a `serve` together."""
    with _processes(folder, config, ["serve"]) as (serve,):
        wait_for("the node", lambda: _ready(db, "work") and _ready(db, "deliver"), seconds=120)
        time.sleep(30)  # what it does once after its start is over
        before = _ticks(serve)
        time.sleep(seconds)
        return round(100 * (_ticks(serve) - before) / TICKS / seconds, 2)


def _ticks(process: Running) -> int:
    found = 0
    for pid in process.session():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found += int(fields[11]) + int(fields[12])
    return found


def _show(name: str, figures: dict[str, Any]) -> None:
    one, two, ratio = (figures[key] for key in ("studies_per_s_1", "studies_per_s_2", "ratio_2_to_1"))
    print(f"{name}: {one} studies/s with one worker, {two} with two: {ratio} times as many")
    print(f"{name}: a worker begins {figures['start_ms_p50']} ms after the commit (95 %: {figures['start_ms_p95']} ms)")
    if "idle_percent_of_a_core" in figures:
        print(f"{name}: an idle node costs {figures['idle_percent_of_a_core']} % of a core")


if __name__ == "__main__":
    main()
