"""Does the drift watch alarm when it should, and only then: ``python benchmarks/drift.py [--quick]``.

Simulated scanners whose distributions are known, fed without a shift (false alarms) and with one (studies until the alarm);
and drawn films through the phantom BiomedCLIP, as they are and with another look: less contrast, inverted, cropped. The
last line is one JSON object. The bar: no false alarm in 10,000 studies of a scanner; every shift told within one window.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dicom_node.drift.fold import fold  # noqa: E402
from dicom_node.drift.observation import Observation, observation_of  # noqa: E402
from dicom_node.drift_settings import DriftSettings  # noqa: E402
from dicom_node.storage.database import Database  # noqa: E402
from dicom_node.storage.drift import NewObservation, add_observation, drift_signals_of  # noqa: E402
from dicom_node.storage.events import EventKind, Severity, list_events  # noqa: E402
from inference.engine import Engine  # noqa: E402
from inference.options import EngineOptions  # noqa: E402
from inference.phantoms import bundle_folder, draw_phantom  # noqa: E402
from inference.phantoms.films import BENCHMARK_SEEDS  # noqa: E402
from inference.reading import Frame, FrameSource, UseMode  # noqa: E402
from tests.dicom_node.drift.simulated import Scanner  # noqa: E402

Pixels = NDArray[np.uint8]
SHIFTS: Final[dict[str, dict[str, float]]] = {
    "scores +2 logits": {"score": 2.0},
    "scores +1 logit": {"score": 1.0},
    "look +3 sd": {"look": 3.0},
    "look +1 sd": {"look": 1.0},
    "spread x2": {"spread": 2.0},
    "drafts 20 to 30 words": {"words": 30.0},
    "40 % without an image": {"unread": 0.4},
}
LOOKS: Final[dict[str, Callable[[Pixels], Pixels]]] = {
    "as it was": lambda film: film,
    "half the contrast": lambda film: (film.astype(np.float32) * 0.5 + 64).astype(np.uint8),
    "inverted": lambda film: 255 - film,
    "cropped to the middle": lambda film: film[40:-40, 40:-40],
}
FILM_SETTINGS: Final = DriftSettings(baseline_studies=150, window=80, minimum=40)


class Feed:
    """One scanner's studies in a database of its own."""

    def __init__(self, folder: Path, settings: DriftSettings) -> None:
        self.settings, self.count = settings, 0
        self.step = settings.window // 8
        self._db = Database.open(folder / "drift.sqlite")

    def put(self, observations: Iterable[Observation]) -> None:
        with self._db.write() as conn:
            for one in observations:
                self.count += 1
                new = NewObservation(f"1.{self.count}", 1, "cxr", "model", "SCANNER", one.packed())
                add_observation(conn, new, float(self.count))
        fold(self._db, self.settings, float(self.count))

    def raised(self) -> list[str]:
        with self._db.read() as conn:
            found = list_events(conn, 1000, EventKind.DRIFT)
        return [event.text.partition(" of SCANNER")[0] for event in found if event.severity is Severity.ALERT]

    def alarms(self) -> list[str]:
        with self._db.read() as conn:
            return [one.signal for one in drift_signals_of(conn) if one.alarm]

    def until_alarm(self, observations: Iterator[Observation], most: int) -> tuple[int | None, list[str]]:
        """After how many studies, and of which signals; None where ``most`` raised none."""
        for put in range(self.step, most + 1, self.step):
            self.put([next(observations) for _ in range(self.step)])
            if self.alarms():
                return put, self.alarms()
        return None, []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one scanner of 2,000 studies, fewer repetitions and films")
    quick = parser.parse_args().quick
    scanners, studies, repeats = (1, 2000, 1) if quick else (10, 10_000, 5)
    figures: dict[str, Any] = {"unshifted": unshifted(scanners, studies)}
    figures["shifted"] = {name: shifted(shift, repeats) for name, shift in SHIFTS.items() if not quick or "+1" not in name}
    figures["films"] = films(quick)
    print(json.dumps(figures))


def unshifted(scanners: int, studies: int) -> dict[str, Any]:
    """No shift: how many alarms, and what a study costs the keeper."""
    began, raised = time.process_time(), []
    for seed in range(scanners):
        with tempfile.TemporaryDirectory() as folder:
            feed, scanner = Feed(Path(folder), DriftSettings()), Scanner(1000 + seed, findings=10)
            for _ in range(studies // 500):
                feed.put(scanner.studies(500))
            raised += feed.raised()
    took = 1000 * (time.process_time() - began) / (scanners * studies)
    told = f"{scanners} x {studies} studies without a shift: {len(raised)} false alarms {raised}"
    print(f"{told}; {took:.2f} CPU ms a study")
    return {"studies": scanners * studies, "false_alarms": len(raised), "cpu_ms_per_study": round(took, 2)}


def shifted(shift: dict[str, float], repeats: int) -> dict[str, Any]:
    """Studies after the shift until the first alarm, the worst of ``repeats`` scanners."""
    found: list[int | None] = []
    for seed in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            feed, scanner = Feed(Path(folder), DriftSettings()), Scanner(2000 + seed, findings=10)
            feed.put(scanner.studies(feed.settings.baseline_studies + feed.settings.window))
            found.append(feed.until_alarm(scanner.studies(10**6, **shift), 2 * feed.settings.window)[0])
    print(f"{shift}: alarm after {found} studies")
    return {"worst": None if None in found else max(one for one in found if one is not None)}


def films(quick: bool) -> dict[str, Any]:
    """Embeddings and scores of the phantom BiomedCLIP, of drawn films with and without another look."""
    engine = Engine.load(
        EngineOptions(
            triage=bundle_folder("biomedclip"),
            drafting=None,
            catalogue=ROOT / "config" / "findings" / "chest_xray.yaml",
            mode=UseMode.RESEARCH,
            threads=1,
            heat_maps=False,
        )
    )
    settings = FILM_SETTINGS
    before = settings.baseline_studies + settings.window
    seen = [observation_of(engine.read([_frame(draw(n))])) for n in range(before)]
    found = {}
    for name, look in LOOKS.items():
        with tempfile.TemporaryDirectory() as folder:
            feed = Feed(Path(folder), settings)
            feed.put(seen)
            calm = feed.raised()
            later = (observation_of(engine.read([_frame(look(draw(n)))])) for n in range(before, 10**6))
            after, signals = feed.until_alarm(later, settings.window if quick else 2 * settings.window)
        print(f"films {name}: alarm after {after} studies {signals}; before: {calm}")
        found[name] = {"alarm_after": after, "signals": signals[:4]}
    return found


def draw(number: int) -> Pixels:
    return draw_phantom(BENCHMARK_SEEDS + number, size=256).pixels


def _frame(pixels: Pixels) -> Frame:
    source = FrameSource("1.2.3", "1.2.840.10008.5.1.4.1.1.1.1", "1.2")
    return Frame(np.ascontiguousarray(pixels), source, "DX", "CHEST", "PA")


if __name__ == "__main__":
    main()
