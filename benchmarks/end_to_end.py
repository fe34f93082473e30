"""The whole job: studies a second, and how long from the last image to the report in Orthanc, split by step.

    python benchmarks/end_to_end.py [--studies 60] [--engine both] [--seconds 0.5] [--senders 1,16] [--quick]

A real node (`wetread serve`, SQLite, on this disk) gets drawn films, each a study of its own, from DCMTK's storescu over 1 and
16 associations, and sends its reports to a real Orthanc. With the phantom models the engine works on the processor; with the
synthetic engine it takes --seconds for each study and no processor time, as a GPU elsewhere. In the same run each step is
measured alone, with nothing beside it; the pipeline's rate is held against the slowest of them (wished: at least 0.9). The
memory of each process is sampled all the while; what it grows for each 10,000 studies is told, and judged (at most 50 MB) from
1,000 studies on: --studies 10000 is the long form. Ratios count, not absolutes. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from end_to_end_node import Running, films, node, send, watched
from end_to_end_steps import alone, documents_alone, slope, steps, story, wait_for_all

from dicom_node.storage.database import Database
from inference.reading import UseMode
from inference.stages import Study
from tests.acceptance.harness.chaos.entry import SyntheticEngine

CHUNK = 100  # studies that are drawn and sent at a time
BACKLOG = 60  # jobs that may be left when the next are sent
GROWTH_MB, JUDGED_FROM = 50.0, 1000
BATCH = 8


def one_run(running: Running, work: Path, studies: int, senders: int) -> dict[str, Any]:
    """Figures of ``studies`` over so many associations."""
    database = Database.open(running.data / "wetread.sqlite")
    before = time.time()
    sent, sending = [], 0.0
    known = _read_already(database)
    limit = 60 + 5.0 * studies
    for start in range(0, studies, CHUNK):
        paths = films(work / "films", min(CHUNK, studies - start))
        uids = [_study_of(path) for path in paths]
        sending += send(running.machine.port, paths, senders)
        sent += uids
        for path in paths:
            path.unlink()
        last = start + CHUNK >= studies
        wait_for_all(database, known + len(sent), limit, 0 if last else BACKLOG)
    found = story(database, sent)
    split = steps(found, running.steps, before)
    database.close()
    return {
        "senders": senders,
        "studies": studies,
        "sent_per_s": round(studies / sending, 2),
        "receive_ms": round(1000 * senders * sending / studies, 1),
        "studies_per_s": round(found.rate, 3),
        "steps": [asdict(one) for one in split],
    }


def _study_of(path: Path) -> str:
    from pydicom import dcmread

    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def _read_already(database: Database) -> int:
    from dicom_node.storage.job_counts import count_jobs
    from dicom_node.storage.jobs import JobKind

    return sum(one.count for one in count_jobs(database) if one.kind is JobKind.READ)


def engine_alone(kind: str, seconds_each: float, film: Path, seconds: float) -> float:
    """Studies a second of the engine over batches of ready pictures."""
    from dicom_node.pixels import shared_reader

    pixels = shared_reader()
    chosen = pixels.select([pixels.open(film)]).chosen
    frames = tuple(frame for frame in pixels.show_each(chosen) if hasattr(frame, "pixels"))
    batch = [Study(frames, ())] * BATCH
    engine: Any = SyntheticEngine(UseMode.ASSIST)
    SyntheticEngine.seconds = seconds_each
    if kind == "phantom":
        from dicom_node.choices import engine_options
        from dicom_node.settings import Settings
        from inference.engine import Engine

        settings = Settings.model_validate({"engine": {"device": "cpu", "threads": 1}})
        engine = Engine.load(engine_options(settings, "chest_xray"))

    def one() -> int:
        engine.finish(engine.triage(batch))
        return BATCH

    return alone(one, seconds)


def measure(kind: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One engine: each step alone, then the pipeline."""
    (film,) = films(folder / "one", 1)
    took = 3.0 if options.quick else 8.0
    rates = {
        "engine": engine_alone(kind, options.seconds, film, took),
        "decode and documents": documents_alone(film, took),
    }
    slowest = min(rates, key=lambda name: rates[name])
    runs = []
    with node(folder / "site", "models" if kind == "phantom" else f"synthetic,seconds={options.seconds}") as running:
        with watched(running):
            for senders in options.senders:
                runs.append(one_run(running, folder, options.studies, senders))
                runs[-1]["of_slowest_step_alone"] = round(runs[-1]["studies_per_s"] / rates[slowest], 3)
        rate = sum(run["studies_per_s"] for run in runs) / len(runs)
        memory = {name: _memory(samples, rate) for name, samples in sorted(running.memory.items())}
    alone_rates = {name: round(rate, 2) for name, rate in rates.items()}
    return {"engine": kind, "alone_per_s": alone_rates, "slowest": slowest, "runs": runs, "memory": memory}


def _memory(samples: Sequence[tuple[float, float]], rate: float) -> dict[str, float]:
    growth = slope(samples, rate)
    return {"mb": round(samples[-1][1], 1), "most_mb": round(max(mb for _, mb in samples), 1), "growth_10k": round(growth, 1)}


def show(found: dict[str, Any]) -> None:
    print(f"engine: {found['engine']}; alone, studies a second: {found['alone_per_s']}")
    for run in found["runs"]:
        print(f"  {run['studies']} studies over {run['senders']} associations: {run['studies_per_s']} studies/s, "
              f"{run['of_slowest_step_alone']} of the slowest step alone ({found['slowest']})")  # fmt: skip
        print(f"    {'step':20s} {'p50 ms':>9s} {'p95 ms':>9s} {'samples':>8s}")
        print(f"    {'receive (mean)':20s} {run['receive_ms']:9.1f} {'':9s} {run['studies']:8d}")
        for one in run["steps"]:
            print(f"    {one['name']:20s} {1000 * one['p50']:9.1f} {1000 * one['p95']:9.1f} {one['count']:8d}")
    sent = sum(run["studies"] for run in found["runs"])
    for name, one in found["memory"].items():
        grown = f", {one['growth_10k']:+.1f} MB for each 10,000 studies" if sent >= JUDGED_FROM else ""
        print(f"  {name:12s} {one['mb']:8.1f} MB at the end, at most {one['most_mb']:.1f}{grown}")


def judged(found: Sequence[dict[str, Any]], studies: int) -> bool | None:
    """Whether memory is flat; None where too few studies were sent to tell."""
    if studies < JUDGED_FROM:
        return None
    return all(one["growth_10k"] <= GROWTH_MB for part in found for one in part["memory"].values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=60, help="for each number of senders")
    parser.add_argument("--senders", type=lambda text: [int(part) for part in text.split(",")], default=[1, 16])
    parser.add_argument("--engine", choices=["both", "synthetic", "phantom"], default="both")
    parser.add_argument("--seconds", type=float, default=0.5, help="of the synthetic engine for a study")
    parser.add_argument("--quick", action="store_true", help="the synthetic engine, 16 senders, 16 studies")
    options = parser.parse_args()
    if options.quick:
        options.engine, options.senders, options.studies = "synthetic", [16], 16
    kinds = ["synthetic", "phantom"] if options.engine == "both" else [options.engine]
    found = []
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="wetread-e2e-", ignore_cleanup_errors=True) as folder:
            found.append(measure(kind, options, Path(folder)))
        show(found[-1])
    flat = judged(found, options.studies * len(options.senders))
    print(json.dumps({"cores": os.cpu_count(), "engines": found, "memory_flat": flat}))
    return 1 if flat is False else 0


if __name__ == "__main__":
    sys.exit(main())
