"""How well the phantom BiomedCLIP reads pictures it has never seen: ``python benchmarks/phantom_triage.py [--quick]``.

Every picture goes the way of a real one: drawn at 512 pixels (256 with --quick), through ``Triage`` and the catalogue's scope,
judged at the catalogue's thresholds. The last line is one JSON object:
  auc, sensitivity, specificity   of each finding on frontal films
  kinds       for each kind of picture, sent as a DX that names neither body part nor view: ``told``, the share that the model
              takes for what it is; ``judged``, the share that would be judged (right for chest_frontal alone); ``mistaken``
  retrieval   text to film: of the films nearest to a sentence, as many as there are right ones, the share that is right
              (recall at R); ``by_chance`` is what a random order gives
  shifted     auc of films of another hospital (inference/phantoms/shift.py)
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
from inference.phantoms.kinds import FRONTAL, KINDS, draw_kind  # noqa: E402
from inference.phantoms.phrases import DEVICES, SIDED, details  # noqa: E402
from inference.phantoms.shift import SHIFTS, draw_shifted  # noqa: E402
from inference.phantoms.train_triage import area_under_curve  # noqa: E402
from inference.reading import Frame, FrameSource  # noqa: E402
from inference.triage.catalogue import FindingsCatalogue, load_catalogue  # noqa: E402
from inference.triage.contrastive import Triage  # noqa: E402
from inference.triage.gate import Gate  # noqa: E402

QUERIES: Final = {
    "pleural_effusion": "a film with a {} pleural effusion",
    "pneumothorax": "{} pneumothorax",
    "consolidation": "chest x-ray showing {} consolidation",
    "nodule": "a nodule in the {} lung",
    "cardiomegaly": "an enlarged heart",
    "device": "a medical device",
    "pacemaker": "pacemaker",
    "line": "a central venous catheter",
    "tube": "a tracheal tube",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="400 films of 256 pixels, or 25 s of them")
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--bundle", type=Path, default=bundle_folder("biomedclip"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    catalogue = load_catalogue(ROOT / "config" / "findings" / "chest_xray.yaml")
    triage = Triage.load(open_bundle(given.bundle), catalogue, torch.device("cpu"))
    films, size, seconds, few = (400, 256, 18.0, 12) if given.quick else (given.films, 512, float("inf"), 100)
    vectors, labels, captions = read(triage, films, size, seconds)
    shown = figures(catalogue, triage, triage.probabilities(vectors), labels)
    shown["kinds"] = kinds(Gate(catalogue, triage), few, size)
    shown["retrieval"] = retrieval(triage, vectors, labels, captions)
    shown["shifted"] = {shift: shifted(triage, catalogue, shift, few * 4, size) for shift in SHIFTS}
    print(json.dumps(shown))


def read(triage: Triage, films: int, size: int, seconds: float) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[str]]:
    """Embeddings, what was drawn, and what a report would say, film by film."""
    started = time.monotonic()
    vectors, labels, captions = [], [], []
    for seed in range(BENCHMARK_SEEDS, BENCHMARK_SEEDS + films):
        film = draw_phantom(seed, size=size)
        vectors.append(triage.embed([frame_of(film.pixels, seed)])[0])
        labels.append([key in film.findings for key in KEYS])
        captions.append(film.caption)
        if time.monotonic() - started > seconds:
            break
    return np.stack(vectors), np.array(labels), captions


def frame_of(pixels: NDArray[np.uint8], number: int) -> Frame:
    return Frame(pixels, FrameSource(f"2.25.{number}", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.1"), "DX")


def kinds(gate: Gate, few: int, size: int) -> dict[str, Any]:
    """Of ``few`` pictures of each kind: what the model takes them for, and whether they would be judged."""
    rows = {}
    for kind in KINDS:
        frames = [frame_of(draw_kind(kind, BENCHMARK_SEEDS + seed, size), seed) for seed in range(few)]
        verdicts = [verdict for _, verdict in gate.look(frames).verdicts]
        taken = [verdict.kind.key if verdict.kind else "measured" for verdict in verdicts]  # measured: refused before the model
        rows[kind] = {
            "told": round(sum(name in (kind, "measured") for name in taken) / few, 4),
            "judged": round(sum(not verdict.refusal for verdict in verdicts) / few, 4),
            "mistaken": {name: taken.count(name) for name in sorted(set(taken) - {kind, "measured"})},
        }
    others = [row["judged"] for kind, row in rows.items() if kind != FRONTAL]
    told = float(np.mean([row["told"] for row in rows.values()]))
    return {"all_told": round(told, 4), "others_judged": round(float(np.mean(others)), 4), **rows}


def retrieval(
    triage: Triage, vectors: NDArray[np.float32], labels: NDArray[np.bool_], captions: list[str]
) -> dict[str, dict[str, float]]:
    """Recall at R of every sentence, R being the number of films it is true of."""
    said = [details(caption) for caption in captions]
    sides, devices = np.array([side for side, _ in said]), np.array([device for _, device in said]) > 0
    true = {key: labels[:, place] for place, key in enumerate(KEYS)} | {kind: devices[:, k] for k, kind in enumerate(DEVICES)}
    asked = {QUERIES[key].replace("{} ", "").replace("the lung", "the lungs"): right for key, right in true.items()}
    for place, key in enumerate(SIDED):
        asked |= {QUERIES[key].format(side): sides[:, place] == sign for side, sign in (("left", 1), ("right", -1))}
    rows = {}
    for text, right in asked.items():
        nearest = np.argsort(-(vectors @ triage.embed_texts([text])[0]))[: int(right.sum())]
        if len(nearest):
            rows[text] = {"recall": round(float(right[nearest].mean()), 4), "by_chance": round(float(right.mean()), 4)}
    return rows


def shifted(triage: Triage, catalogue: FindingsCatalogue, shift: str, films: int, size: int) -> dict[str, float]:
    drawn = [draw_shifted(BENCHMARK_SEEDS + seed, shift, size=size) for seed in range(films)]
    columns = [catalogue.keys.index(key) for key in KEYS]
    scores = triage.score([frame_of(film.pixels, number) for number, film in enumerate(drawn)])[:, columns]
    labels = np.array([[key in film.findings for key in KEYS] for film in drawn])
    return {key: round(value, 4) for key, value in zip(KEYS, area_under_curve(scores, labels), strict=True)}


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
