"""Does the phantom BiomedGPT name what was drawn? The last line printed is one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from inference.bundles import open_bundle
from inference.drafting.drafter import Drafter
from inference.phantoms import bundle_folder
from inference.phantoms.score_drafting import FIRST_UNSEEN_SEED, score_drafter


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 films instead of 600")
    parser.add_argument("--bundle", type=Path, default=bundle_folder("biomedgpt"))
    given = parser.parse_args(arguments)
    bundle, count = open_bundle(given.bundle, kinds=["biomedgpt"]), 100 if given.quick else 600
    start = time.monotonic()
    score = score_drafter(Drafter.load(bundle, torch.device("cpu")), range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + count))
    figures = {
        "n": score.films,
        "named_rate": round(score.named, 4),
        "named_rate_per_finding": rounded(score.named_by_finding),
        "false_mention_rate": rounded(score.false_mentions),
        "normal_kept_rate": round(score.normal_kept, 4),
        "side_right_rate": round(score.sides_right, 4),
        "seconds": round(time.monotonic() - start, 1),
        "bundle_digest": bundle.digest,
    }
    print(json.dumps(figures))
    return 0


def rounded(rates: dict[str, float]) -> dict[str, float]:
    return {key: round(rate, 4) for key, rate in rates.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
