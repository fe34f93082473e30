"""How well the phantom BiomedCLIP reads films it has never seen: ``python benchmarks/phantom_triage.py [--quick]``.

Every film goes the way of a real one: drawn at 512 pixels (256 with --quick), through ``Triage.score``, judged at the
catalogue's thresholds. The last line is one JSON object.
The bar: an area under the ROC curve of at least 0.95 for each finding, over at least 400 films.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from inference.bundles import open_bundle  # noqa: E402
from inference.phantoms import KEYS, bundle_folder, draw_phantom  # noqa: E402
from inference.phantoms.films import BENCHMARK_SEEDS  # noqa: E402
from inference.phantoms.train_triage import area_under_curve  # noqa: E402
from inference.reading import Frame, FrameSource  # noqa: E402
from inference.triage.catalogue import FindingsCatalogue, load_catalogue  # noqa: E402
from inference.triage.contrastive import Triage  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="400 films of 256 pixels, or 25 s of them")
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--bundle", type=Path, default=bundle_folder("biomedclip"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    catalogue = load_catalogue(ROOT / "config" / "findings" / "chest_xray.yaml")
    triage = Triage.load(open_bundle(given.bundle), catalogue, torch.device("cpu"))
    films, size, seconds = (400, 256, 25.0) if given.quick else (given.films, 512, float("inf"))
    scores, labels = score(triage, films, size, seconds)
    print(json.dumps(figures(catalogue, triage, scores, labels)))


def score(triage: Triage, films: int, size: int, seconds: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Probabilities of all catalogue entries and what was drawn, film by film."""
    started, scores, labels = time.monotonic(), [], []
    for seed in range(BENCHMARK_SEEDS, BENCHMARK_SEEDS + films):
        film = draw_phantom(seed, size=size)
        source = FrameSource(f"2.25.{seed}", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.1")
        scores.append(triage.score([Frame(film.pixels, source, "DX", "CHEST", "PA")])[0])
        labels.append([key in film.findings for key in KEYS])
        if time.monotonic() - started > seconds:
            break
    return np.stack(scores), np.array(labels)


def figures(
    catalogue: FindingsCatalogue, triage: Triage, scores: NDArray[np.float32], labels: NDArray[np.bool_]
) -> dict[str, Any]:
    columns = [catalogue.keys.index(key) for key in KEYS]
    known = scores[:, columns]
    called = known >= np.array([catalogue.findings[column].threshold for column in columns])
    rates = {
        "auc": area_under_curve(known, labels),
        "sensitivity": [float(called[labels[:, k], k].mean()) for k in range(len(KEYS))],
        "specificity": [float((~called[~labels[:, k], k]).mean()) for k in range(len(KEYS))],
    }
    rounded = {name: {key: round(value, 4) for key, value in zip(KEYS, values, strict=True)} for name, values in rates.items()}
    error = float(np.abs(known.mean(axis=0) - labels.mean(axis=0)).max())
    exact = float((called == labels).all(axis=1).mean())
    return {
        "n": len(labels),
        "bundle": triage.bundle.digest[:12],
        **rounded,
        "films_all_right": round(exact, 4),
        "calibration_in_the_large": round(error, 4),
    }


if __name__ == "__main__":
    main()
