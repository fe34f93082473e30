"""Do calibrations and probes help on films unlike those of training? ``python benchmarks/calibration.py [--quick]``.

The phantom model reads films of another drawn hospital (``inference.phantoms.shift``): other bodies, exposure and grain than it
was trained on. A calibration and a probe are fitted on some of them and measured on others, of other patients, which neither
fit has seen. Per finding and in the mean: expected calibration error before and after, sensitivity at the threshold that was
set for 95 %, share left undecided and missed, and areas under the ROC curve of zero-shot and probe. The last line is one JSON
object.

The bar: where the shift brings the calibration error above 0.05 in the mean, it is halved and the probe's area is above
zero-shot's (where the model is right already, a fit on few films gains nothing); sensitivity on held-out films, by its own 95 %
interval, reaches the interval that the report states.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from inference.bundles import open_bundle  # noqa: E402
from inference.phantoms import KEYS, bundle_folder  # noqa: E402
from inference.phantoms.films import BENCHMARK_SEEDS, CHECKING_SEEDS, Films  # noqa: E402
from inference.phantoms.shift import SHIFTS, shifted_films  # noqa: E402
from inference.reading import Frame, FrameSource  # noqa: E402
from inference.triage.catalogue import FindingsCatalogue, load_catalogue  # noqa: E402
from inference.triage.contrastive import Triage  # noqa: E402
from inference.triage.heads.calibrate import Labelled, fit_calibration  # noqa: E402
from inference.triage.heads.finding import FindingFit, Wishes  # noqa: E402
from inference.triage.heads.measure import auc, calibration_error, wilson  # noqa: E402
from inference.triage.heads.probe import directions, fit_probe  # noqa: E402
from inference.triage.heads.transform import sigmoid  # noqa: E402

_SIZE: Final = 256
_SEEDS_APART: Final = 20_000  # between the films of one shift and the next
_ABSTAIN: Final = 0.1
WISHES: Final = Wishes(abstain=_ABSTAIN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one shift, 150 films to fit and 150 to measure")
    parser.add_argument("--films", type=int, default=600, help="to fit on, and as many to measure on, of each shift")
    parser.add_argument("--shift", choices=SHIFTS, action="append")
    parser.add_argument("--bundle", type=Path, default=bundle_folder("biomedclip"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    catalogue = load_catalogue(ROOT / "config" / "findings" / "chest_xray.yaml")
    triage = Triage.load(open_bundle(given.bundle), catalogue, torch.device("cpu"))
    films, shifts = (150, ["processed"]) if given.quick else (given.films, given.shift or list(SHIFTS))
    started = time.monotonic()
    results = {shift: one_shift(triage, catalogue, shift, films) for shift in shifts}
    print(
        json.dumps(
            {
                "bundle": triage.bundle.digest[:12],
                "films": films,
                "seconds": round(time.monotonic() - started, 1),
                "shifts": results,
            }
        )
    )


def one_shift(triage: Triage, catalogue: FindingsCatalogue, shift: str, films: int) -> dict[str, Any]:
    """Fit on one set of films, measure on another."""
    place = SHIFTS.index(shift) * _SEEDS_APART
    fitted, held = (
        labelled(triage, catalogue, shifted_films(range(start + place, start + place + films), _SIZE, shift))
        for start in (CHECKING_SEEDS, BENCHMARK_SEEDS)
    )
    calibration = {one.key: one for one in fit_calibration(fitted, triage.judged, WISHES) if one.fit}
    probe = fit_probe(fitted, triage.judged, WISHES)
    learned = directions(probe)
    rows = {}
    for key in KEYS:
        column = held.keys.index(key)
        known = held.known(column)
        labels, margins = held.truth[known, column] == 1, held.margins[known, column].astype(np.float64)
        rows[key] = calibrated(calibration.get(key), margins, labels)
        if key in learned:
            rows[key]["auc_probe"] = round(float(auc(learned[key](held.embeddings[known]), labels)), 4)
        print(f"{shift:10} {key:17} {json.dumps(rows[key])}", flush=True)
    return {"findings": rows, **means(list(rows.values()))}


def labelled(triage: Triage, catalogue: FindingsCatalogue, films: Films) -> Labelled:
    """Drawn films as the model sees them, each of its own patient."""
    source = FrameSource("2.25.1", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.1")
    vectors = triage.embed([Frame(pixels, source, "DX", "CHEST", "PA") for pixels in films.pixels])
    truth = np.full((len(films), len(catalogue.keys)), -1, np.int8)
    truth[:, [catalogue.keys.index(key) for key in KEYS]] = films.labels
    count = len(films)
    return Labelled(catalogue.keys, truth, triage.margins_of(vectors), vectors, np.arange(count), ("",) * count)


def calibrated(one: FindingFit | None, margins: NDArray[np.float64], labels: NDArray[np.bool_]) -> dict[str, Any]:
    """The figures of one finding on films that the fit has not seen."""
    before = sigmoid(margins)
    row: dict[str, Any] = {
        "positives": int(labels.sum()),
        "auc": round(float(auc(margins, labels)), 4),
        "ece_before": round(calibration_error(before, labels), 4),
        "sensitivity_before": round(float((before >= 0.5)[labels].mean()), 4),
    }
    if one is None or one.fit is None:
        return row
    p = one.fit.transform(margins).astype(np.float64)
    called = p >= one.fit.cut.threshold.value
    low, high = one.fit.band or (1.0, 0.0)
    return row | {
        "kind": min(one.fit.losses, key=lambda kind: one.fit.losses[kind]),
        "ece_after": round(calibration_error(p, labels), 4),
        "sensitivity": round(float(called[labels].mean()), 4),
        "sensitivity_reached": wilson(int(called[labels].sum()), int(labels.sum()))[1] >= one.fit.sensitivity.low,
        "sensitivity_stated": [round(one.fit.sensitivity.low, 4), round(one.fit.sensitivity.high, 4)],
        "specificity": round(float((~called[~labels]).mean()), 4),
        "undecided": round(float(((p >= low) & (p < high)).mean()), 4),
        "missed_outside_band": round(float((p < min(low, one.fit.cut.threshold.value))[labels].mean()), 4),
    }


def means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    fitted = [row for row in rows if "ece_after" in row]
    names = ("ece_before", "ece_after", "sensitivity_before", "sensitivity", "specificity", "auc", "auc_probe")
    found = {name: [row[name] for row in fitted if name in row] for name in names}
    reached = [row["sensitivity_reached"] for row in fitted]
    return {
        **{f"mean_{name}": round(float(np.mean(values)), 4) for name, values in found.items() if values},
        "fitted": len(fitted),
        "sensitivity_reached": f"{sum(reached)} of {len(reached)}",
    }


if __name__ == "__main__":
    main()
