"""Does the phantom BiomedGPT name what was drawn, and do its other tasks? The last line printed is one JSON object.

Rates are over films and texts that no training has seen. ``questions``: closed ones by the highest score, "list" word for word.
"""

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
from inference.phantoms.score_tasks import score_tasks


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 films instead of 600, and a quarter of the other tasks")
    parser.add_argument("--bundle", type=Path, default=bundle_folder("biomedgpt"))
    given = parser.parse_args(arguments)
    bundle, count = open_bundle(given.bundle, kinds=["biomedgpt"]), 100 if given.quick else 600
    start = time.monotonic()
    drafter = Drafter.load(bundle, torch.device("cpu"))
    score = score_drafter(drafter, range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + count))
    films = 50 if given.quick else 200
    tasks = score_tasks(drafter, range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + films), texts=2 * films)
    figures = {
        "n": score.films,
        "named_rate": round(score.named, 4),
        "named_rate_per_finding": rounded(score.named_by_finding),
        "false_mention_rate": rounded(score.false_mentions),
        "normal_kept_rate": round(score.normal_kept, 4),
        "side_right_rate": round(score.sides_right, 4),
        "films_asked": films,
        "questions": rounded(tasks.questions),
        "classified": round(tasks.classified, 4),
        "inferences": rounded(tasks.inferences),
        "summaries_word_for_word": None if tasks.summaries is None else round(tasks.summaries, 4),
        "seconds": round(time.monotonic() - start, 1),
        "bundle_digest": bundle.digest,
    }
    print(json.dumps(figures))
    return 0


def rounded(rates: dict[str, float]) -> dict[str, float]:
    return {key: round(rate, 4) for key, rate in rates.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
