"""Chaos, the long form: does every acknowledged study end with exactly one current result at every destination?

    python benchmarks/chaos.py [--minutes 10] [--seed N] [--form both|sqlite|postgresql] [--quick] [--keep FOLDER]

Drawn films of new studies (some with late images, some sent twice, some STAT) go by DCMTK to a real node:
one machine on SQLite, then two on PostgreSQL. Its destinations are real processes: Orthanc with storage commitment, a FHIR
server, an HL7 receiver, a folder. By a schedule drawn from the seed, processes are killed (-9) and paused past their leases,
the disk fills, lines break, carry nothing or are slow, peers refuse, warn, lie and stay away for a day (an hour is a second
here, and the node's waits are scaled alike). Then everything is mended, and the invariant must come true with nobody's hand.
The engine is synthetic (no torch), so that a killed worker is back within seconds; all else is the node as it is.

--quick: 12 s of short faults on SQLite. The last line is one JSON object; --keep writes it into a file of FOLDER. Exit status 1
where the invariant does not hold; the post-mortem is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from dicom_node.version import software_version
from tests.acceptance.harness.chaos.faults import LASTS, FaultKind
from tests.acceptance.harness.chaos.run import Outcome, Wish, run
from tests.acceptance.harness.chaos.site import Plan

FORMS = {"sqlite": 1, "postgresql": 2}


def one(form: str, seed: int, seconds: float, per_second: float, kinds: Collection[FaultKind]) -> Outcome:
    plan = Plan(FORMS[form], disk_mb=int(96 + seconds * per_second / 4))
    wish = Wish(seed, seconds, plan, kinds, per_second, every_s=2.0, patience_s=180)
    with tempfile.TemporaryDirectory(prefix="wetread-chaos-", ignore_cleanup_errors=True) as folder:
        return run(Path(folder), wish)


def figures(form: str, outcome: Outcome, seconds: float) -> dict[str, Any]:
    kinds = Counter(str(fault.kind) for fault in outcome.faults)
    return {
        "form": form,
        "seconds": round(seconds, 1),
        "studies": outcome.studies,
        "images": outcome.images,
        "revisions": outcome.revisions,
        "documents": outcome.documents,
        "faults": sum(kinds.values()),
        "kinds": dict(sorted(kinds.items())),
        "left_out": outcome.left_out,
        "process_starts": outcome.starts,
        "dead_by_a_permanent_refusal": outcome.dead,
        "settled_s": outcome.settled_s,
        "violations": len(outcome.violations),
    }


def show(found: dict[str, Any]) -> None:
    what = ("studies", "images", "revisions", "documents", "faults", "dead_by_a_permanent_refusal", "violations")
    print(f"{found['form']}: {found['seconds']:.0f} s; " + ", ".join(f"{found[key]} {key.replace('_', ' ')}" for key in what))
    print(f"  whole again {found['settled_s']:.1f} s after the last fault; processes started: {found['process_starts']}")
    for kind, count in found["kinds"].items():
        print(f"  {count:4d} × {kind}")
    for kind, why in found["left_out"].items():
        print(f"     - {kind}: left out, {why}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="of faults, for each form")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--form", choices=["both", *FORMS], default="both")
    parser.add_argument("--per-second", type=float, default=0.8, help="new studies")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for the figures, such as benchmarks/results")
    options = parser.parse_args()
    seconds = 12.0 if options.quick else 60 * options.minutes
    kinds = frozenset(FaultKind) - (LASTS.keys() if options.quick else set())
    forms = ["sqlite"] if options.quick else list(FORMS) if options.form == "both" else [options.form]
    print(f"seed {options.seed}", flush=True)
    found, good = [], True
    for form in forms:
        started = time.monotonic()
        outcome = one(form, options.seed, seconds, options.per_second, kinds)
        found.append(figures(form, outcome, time.monotonic() - started))
        show(found[-1])
        print(outcome.text, flush=True)
        good = good and not outcome.violations
    told = {"seed": options.seed, "version": software_version(), "cores": os.cpu_count(), "runs": found}
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / f"chaos-{options.seed}.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    print(json.dumps(told))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
