"""The node's own command line with a synthetic engine for its models, and, where a test of the checker wants it, with a bug.

    python -m tests.acceptance.harness.chaos.entry CHANGES COMMAND …

CHANGES: words with commas: `models` (the real ones stay), `seconds=0.3` (the engine's time for a study), `steps=FILE` (each
measured step becomes a JSON line there), `bug=NAME`.
All else is the node as it is. The engine needs no torch, so a process that was killed is back within seconds.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inference.reading import Frame, Reading, Skipped
from tests.support import GreyReader

NAME = "tests.acceptance.harness.chaos.entry"


class SyntheticEngine(GreyReader):
    """Findings from the mean grey, as slow as it is told to be, without using the processor: as a GPU that is elsewhere."""

    seconds = 0.0
    models = ()
    precision, why = "none", "a synthetic engine"

    @classmethod
    def load(cls, options: Any) -> SyntheticEngine:
        return cls(options.mode)

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading:
        time.sleep(self.seconds)
        return super().read(frames, skipped)


def synthetic(seconds: float) -> None:
    """``inference.engine`` for this process."""
    module = types.ModuleType("inference.engine")
    SyntheticEngine.seconds = seconds
    module.Engine = SyntheticEngine  # type: ignore[attr-defined]
    sys.modules["inference.engine"] = module


def recorded(file: Path) -> None:
    """Every step that the worker measures, and each commit of a whole reading."""
    from dicom_node import measures
    from dicom_node.worker.saving import Saver

    add, save, out = measures.Measures._add, Saver.save, file.open("a", buffering=1)

    def told(step: str, seconds: float) -> None:
        out.write(json.dumps({"step": step, "seconds": seconds, "at": time.time()}) + "\n")

    def adding(self: Any, metric: Any, labels: Any, parts: Any) -> None:
        add(self, metric, labels, parts)
        if metric is measures.STEP:
            told(labels["step"], parts[measures.SUM])

    def saving(self: Any, *what: Any) -> None:
        began = time.perf_counter()
        save(self, *what)
        told("commit", time.perf_counter() - began)

    measures.Measures._add = adding  # type: ignore[method-assign]
    Saver.save = saving  # type: ignore[method-assign]


def failures_count_as_done() -> None:
    """A delivery that failed is marked done."""
    from dicom_node.delivery.lane import Lane
    from dicom_node.storage.jobs import complete

    def failed(self: Any, job: Any, _error: Exception) -> None:
        with self._db.write() as connection:
            complete(connection, job, job.lease_owner, time.time())

    Lane._failed = failed  # type: ignore[method-assign]


def forgets_outbox_rows() -> None:
    """Every fourth delivery is not queued."""
    from dicom_node.storage import jobs

    queue, calls = jobs.enqueue, itertools.count()

    def enqueue(connection: Any, job: Any, now: float) -> bool:
        lost = job.kind is jobs.JobKind.DELIVER and next(calls) % 4 == 0
        return not lost and queue(connection, job, now)

    jobs.enqueue = enqueue  # before any module takes the name from there


BUGS: dict[str, Callable[[], None]] = {
    "failures-count-as-done": failures_count_as_done,
    "forgets-outbox-rows": forgets_outbox_rows,
}


def main(arguments: Sequence[str]) -> None:
    changes = dict(word.partition("=")[::2] for word in arguments[0].split(",") if word)
    if "models" not in changes:
        synthetic(float(changes.get("seconds", 0)))
    if "steps" in changes:
        recorded(Path(changes["steps"]))
    if "bug" in changes:
        BUGS[changes["bug"]]()
    from dicom_node import cli, supervisor

    own = supervisor._command

    def command(*what: Any) -> list[str]:
        """The children of `serve` are to be as it is."""
        made = own(*what)
        at = made.index("dicom_node.cli")
        return [*made[:at], NAME, arguments[0], *made[at + 1 :]]

    supervisor._command = command
    sys.argv = ["wetread", *arguments[1:]]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
