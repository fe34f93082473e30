"""What the worker's threads win: decoding, models and saving side by side, against one after the other and the slowest alone.

    python benchmarks/overlap.py [--quick] [--studies N] [--size PIXELS]

Drawn films (JPEG 2000 costs most to decode) wait in a node's own database and file store and are read with the phantom models
on the CPU, in one thread. In one run: each step alone, over all studies; the worker one study at a time; the worker as it runs.
Then, with a draft that takes long, how long a STAT finding takes from the claim to its row in the outbox, with `findings_first`
and without; and how much memory the worker has in the middle third of its studies and in the last. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from pydicom.uid import JPEG2000Lossless

from dicom_node import logs
from dicom_node.flow import Bounds, ReadRequest, document, prepare
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.pixels.reader import PixelOptions, PixelReader
from dicom_node.routing import Routes
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.jobs import Job, JobKind, JobState, NewJob, enqueue, list_jobs
from dicom_node.worker.requests import request_of
from dicom_node.worker.worker import READ_QUEUE, Worker, WorkerOptions
from inference.engine import Engine
from inference.options import EngineOptions
from inference.phantoms import bundle_folder
from inference.reading import Reading, UseMode
from inference.stages import Study, Triaged
from reporting.context import DocumentKind
from reporting.options import DocumentOptions

CATALOGUE = Path(__file__).parents[1] / "config" / "findings" / "chest_xray.yaml"
KINDS = (DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR, DocumentKind.FHIR_BUNDLE)
SLOW_DRAFT_S = 2.0  # a full-size model on a CPU


def engine() -> Engine:
    options = EngineOptions(
        triage=bundle_folder("biomedclip"),
        drafting=bundle_folder("biomedgpt"),
        catalogue=CATALOGUE,
        mode=UseMode.ASSIST,
        device="cpu",
        threads=1,
    )
    return Engine.load(options)


class SlowDraft:
    """The same engine with a draft that takes as long as that of a full-size model."""

    def __init__(self, engine: Engine) -> None:
        self.triage, self.resume, self.refuse = engine.triage, engine.resume, engine.refuse
        self._engine = engine

    def finish(self, triaged: Sequence[Triaged]) -> list[Reading]:
        time.sleep(SLOW_DRAFT_S)
        return self._engine.finish(triaged)


class Bench:
    """A node's storage with films that wait."""

    def __init__(self, folder: Path, size: int) -> None:
        self.db, self.files = Database.open(folder / "node.sqlite"), FileStore(folder)
        self._files = [self._film(seed, size) for seed in range(6)]

    def _film(self, seed: int, size: int) -> tuple[Any, bytes]:
        film = phantom_dx(seed, ["pneumothorax"] if seed % 2 else [], size=size)
        film.compress(JPEG2000Lossless)
        buffer = BytesIO()
        film.save_as(buffer, enforce_file_format=True)
        return film, buffer.getvalue()

    def add(self, count: int, run: str, first: int = 0) -> None:
        """``count`` studies, each with one of a few films; those of odd numbers show a STAT finding."""
        for number in range(first, first + count):
            film, content = self._files[number % len(self._files)]
            study = f"2.25.{abs(hash((run, number)))}"
            stored = self.files.write_document(f"{study}.1", content)
            uids = (f"{study}.1", film.SOPClassUID, film.SeriesInstanceUID, study, film.file_meta.TransferSyntaxUID)
            payload = {"reading": "r", "revision": 1, "destinations": ["pacs"]}
            with self.db.write() as connection:
                row = NewInstance(*map(str, uids), stored.path, stored.size, stored.sha256, "0")
                record_instance(connection, row, time.time())
                enqueue(connection, NewJob(JobKind.READ, READ_QUEUE, study, study, payload), time.time())

    def worker(self, reader: Any, pixels: PixelReader, **changes: Any) -> Worker:
        options = WorkerOptions(
            mode=UseMode.ASSIST,
            wanted={"pacs": tuple(kind.value for kind in KINDS)},
            documents=DocumentOptions("benchmark", kinds=frozenset(KINDS)),
            device_uid="2.25.1",
            station_name="BENCH",
            institution="",
            lease_seconds=600,
            max_attempts=1,
            retry_seconds=1,
            poll_seconds=0.05,
            **changes,
        )
        return Worker(self.db, self.files, lambda _: reader, options, "bench:1:1", lambda: Routes(()), pixels)

    def jobs(self, kind: JobKind = JobKind.READ) -> list[Job]:
        return list(list_jobs(self.db, kind=kind, limit=100_000))

    def waiting(self) -> int:
        return sum(job.state is not JobState.DONE for job in self.jobs())


def steps_alone(bench: Bench, engine: Engine, pixels: PixelReader, batch: int) -> dict[str, float]:
    """Seconds of each step over all studies that wait, nothing beside it."""
    options = bench.worker(engine, pixels)._options
    requests: list[ReadRequest] = [request_of(bench.db, bench.files, options, job) for job in bench.jobs()]
    taken: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        found = step()
        taken[name] = time.perf_counter() - began
        return found

    prepared = timed("decode", lambda: [prepare(one, pixels, Bounds()) for one in requests])
    parts = [prepared[start : start + batch] for start in range(0, len(prepared), batch)]
    triaged = timed("triage", lambda: [engine.triage([Study(one.frames, one.skipped) for one in part]) for part in parts])
    readings = timed("draft", lambda: [reading for part in triaged for reading in engine.finish(part)])
    pairs = list(zip(prepared, readings, strict=True))
    timed("documents", lambda: [document(one, reading, options.documents) for one, reading in pairs])
    return taken


def one_at_a_time(bench: Bench, engine: Engine, pixels: PixelReader) -> float:
    worker = bench.worker(engine, pixels, batch=1)
    began = time.perf_counter()
    while worker.step():
        pass
    return time.perf_counter() - began


def as_it_runs(bench: Bench, engine: Any, pixels: PixelReader, watch: Callable[[int], None] = lambda _: None) -> float:
    stop = threading.Event()
    thread = threading.Thread(target=bench.worker(engine, pixels).run, args=(stop,))
    began = time.perf_counter()
    thread.start()
    while left := bench.waiting():
        watch(left)
        time.sleep(0.05)
    took = time.perf_counter() - began
    stop.set()
    thread.join()
    return took


def to_findings(bench: Bench, reader: Any, pixels: PixelReader, wish: str, times: int) -> float:
    """Median seconds from the claim to the findings in the outbox, one STAT study at a time."""
    taken = []
    for number in range(times):
        bench.add(1, f"{wish}{number}", first=1)
        study = bench.jobs()[0].study_uid
        worker = bench.worker(reader, pixels, findings_first=wish)
        began = bench.db.now()
        worker.step()
        sent = [job.created_at for job in list_jobs(bench.db, kind=JobKind.DELIVER, study_uid=study)]
        taken.append(min(sent) - began)
    return statistics.median(taken)


def resident_mb() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(bench: Bench, engine: Engine, pixels: PixelReader, count: int) -> dict[str, float]:
    """Resident memory in MiB: the highest of the middle third of the studies, and of the last."""
    highest = [0.0, 0.0, 0.0]

    def watch(left: int) -> None:
        third = min(2, 3 * (count - left) // count)
        highest[third] = max(highest[third], resident_mb())

    bench.add(count, "memory")
    as_it_runs(bench, engine, pixels, watch)
    return {"middle_third_mb": round(highest[1]), "last_third_mb": round(highest[2])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--studies", type=int, default=0)
    parser.add_argument("--size", type=int, default=0, help="rows and columns of a film")
    chosen = parser.parse_args()
    count, size = chosen.studies or (8 if chosen.quick else 64), chosen.size or (1024 if chosen.quick else 2500)
    logs.configure("error", "console")
    torch.set_num_threads(1)
    models = engine()
    with tempfile.TemporaryDirectory() as name, PixelReader(PixelOptions()) as pixels:
        bench = Bench(Path(name), size)
        bench.add(2, "warm")
        one_at_a_time(bench, models, pixels)
        bench.add(count, "alone")
        alone = {step: round(took, 2) for step, took in steps_alone(bench, models, pixels, batch=8).items()}
        single = one_at_a_time(bench, models, pixels)
        bench.add(count, "pipeline")
        pipeline = as_it_runs(bench, models, pixels)
        slow = SlowDraft(models)
        times = 1 if chosen.quick else 3
        first = {wish: round(to_findings(bench, slow, pixels, wish, times), 2) for wish in ("stat", "never")}
        memory = growth(bench, models, pixels, count if chosen.quick else 300)
        bench.db.close()
    models_alone = alone["triage"] + alone["draft"]
    slowest = max(alone["decode"], models_alone, alone["documents"])
    print(f"{count} studies of one film of {size} x {size}, JPEG 2000; seconds for all of them")
    print(f"  each step alone: {alone}; one after the other {sum(alone.values()):.2f}")
    print(f"  worker, one study at a time {single:.2f}; as it runs {pipeline:.2f}: {single / pipeline:.2f} times as fast")
    print(f"  slowest step alone {slowest:.2f}: the pipeline runs at {slowest / pipeline:.0%} of it")
    print(f"  claim to findings in the outbox, draft of {SLOW_DRAFT_S:g} s: {first}")
    print(f"  memory: {memory}")
    figures = {
        "studies": count,
        "alone_s": alone,
        "sum_over_pipeline": round(sum(alone.values()) / pipeline, 2),
        "one_at_a_time_over_pipeline": round(single / pipeline, 2),
        "share_of_slowest": round(slowest / pipeline, 2),
        "findings_s": first,
        **memory,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
