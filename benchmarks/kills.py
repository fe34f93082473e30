"""A thousand kill -9 of the listener while DCMTK sends, and nothing that was acknowledged is lost.

    python benchmarks/kills.py [--quick] [--kills 1000] [--seconds 150] [--work FOLDER] [--keep FILE]

The test of tests/acceptance/test_kills_while_receiving.py in slices of 50 kills, each with a seed of its own and its own
comparison of every acknowledged instance with the sent bytes. What has been done is kept in FILE after each slice; another run
goes on from there, so that a thousand can be had in runs of a few minutes. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.acceptance.harness.kills import Killing  # noqa: E402

SLICE = 50
OBJECTS_FOR_EACH = 15


def one_slice(work: Path | None) -> dict[str, Any]:
    folder, seed = Path(tempfile.mkdtemp(dir=work)), random.SystemRandom().randrange(10**9)
    begun = time.monotonic()
    try:
        outcome = Killing(folder, seed, objects=SLICE * OBJECTS_FOR_EACH).run(SLICE)
    finally:
        shutil.rmtree(folder)
    return {
        "seed": seed,
        "kills": outcome.kills,
        "in_flight": outcome.in_flight,
        "acknowledged": len(outcome.acknowledged),
        "faults": outcome.faults,
        "seconds": round(time.monotonic() - begun, 1),
    }


def totals(slices: list[dict[str, Any]]) -> dict[str, Any]:
    sums = {name: sum(one[name] for one in slices) for name in ("kills", "in_flight", "acknowledged", "seconds")}
    return {**sums, "faults": sum(len(one["faults"]) for one in slices)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one slice, and nothing is kept")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=150.0, help="no slice is begun later than this")
    parser.add_argument("--work", type=Path, help="folder on a disk: that is where durability is")
    parser.add_argument("--keep", type=Path, default=Path(__file__).parent / "results" / "kills.json")
    options = parser.parse_args()
    slices = json.loads(options.keep.read_text("utf-8"))["slices"] if options.keep.exists() and not options.quick else []
    begun = time.monotonic()
    while totals(slices)["kills"] < (SLICE if options.quick else options.kills) and time.monotonic() - begun < options.seconds:
        slices.append(one_slice(options.work))
        print(json.dumps(slices[-1]), flush=True)
        if not options.quick:
            options.keep.parent.mkdir(exist_ok=True)
            options.keep.write_text(json.dumps({"totals": totals(slices), "slices": slices}, indent=1) + "\n", "utf-8")
    print(json.dumps(totals(slices)))
    raise SystemExit(totals(slices)["faults"] > 0)


if __name__ == "__main__":
    main()
