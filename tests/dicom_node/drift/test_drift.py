"""Real shifts raise an alarm within so many studies; no shift raises none; and what is left behind is right."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from scipy import stats

from dicom_node.drift import observe
from dicom_node.drift.fold import OTHER, fold, reset, set_baseline
from dicom_node.drift.observation import SKETCH_WIDTH, Observation, models_of, observation_of
from dicom_node.drift.statistics import mean_shift, rate, stability_index
from dicom_node.drift_settings import DriftSettings
from dicom_node.pixels.instances import Instance
from dicom_node.pixels.scanner import scanner_of
from dicom_node.storage.database import Database
from dicom_node.storage.drift import NewObservation, add_observation, drift_signals_of, streams, waiting_keys
from dicom_node.storage.events import EventKind, Severity, list_events
from inference.reading import DraftReport, Sentence
from inference.triage.sketch import SKETCH_WIDTH as MADE_WIDTH
from inference.triage.sketch import sketch_of
from tests.dicom_node.drift.simulated import Scanner
from tests.dicom_node.keeping.conftest import empty_database as empty_database
from tests.support import GreyReader

SETTINGS = DriftSettings(baseline_studies=300, window=160)
LOOK = 20  # studies of one look: an eighth of the window


@pytest.fixture
def db(tmp_path: Path, empty_database: Path) -> Iterator[Database]:
    shutil.copy(empty_database, tmp_path / "node.sqlite")
    database = Database.open(tmp_path / "node.sqlite")
    yield database
    database.close()


class Feed:
    """Puts studies in and folds them."""

    def __init__(self, db: Database, settings: DriftSettings = SETTINGS) -> None:
        self.db, self.settings, self.count = db, settings, 0

    def put(self, observations: Iterable[Observation], scanner: str = "MAKER / MODEL / ROOM1") -> None:
        with self.db.write() as conn:
            for one in observations:
                self.count += 1
                new = NewObservation(f"1.{self.count}", 1, "cxr", "model 1", scanner, one.packed())
                add_observation(conn, new, float(self.count))

    def fold(self) -> int:
        return fold(self.db, self.settings, float(self.count)).alarms

    def alarms(self) -> set[str]:
        with self.db.read() as conn:
            return {one.signal for one in drift_signals_of(conn) if one.alarm}


SHIFTS = {
    "every score higher": ({"score": 2.0}, "score f0"),
    "another look": ({"look": 3.0}, "embedding mean"),
    "noisier images": ({"spread": 2.0}, "embedding spread"),
    "longer drafts": ({"words": 30.0}, "draft length"),
    "studies without an image": ({"unread": 0.4}, "unread"),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_raises_its_alarm_within_a_window_and_its_end_ends_it(db: Database, name: str) -> None:
    shift, signal = SHIFTS[name]
    feed, scanner = Feed(db), Scanner(5)
    feed.put(scanner.studies(300 + 160))
    assert feed.fold() == 0
    put = 0
    while signal not in feed.alarms():
        feed.put(scanner.studies(LOOK, **shift))
        feed.fold()
        put += LOOK
        assert put <= 160
    with db.read() as conn:
        events = [event for event in list_events(conn, kind=EventKind.DRIFT) if signal in event.text]
    assert [event.severity for event in events] == [Severity.ALERT], "one alarm, not one for each look"
    feed.put(scanner.studies(160 + 4 * LOOK))
    feed.fold()
    assert signal not in feed.alarms()


def test_a_thousand_studies_without_a_shift_raise_nothing(db: Database) -> None:
    """benchmarks/drift.py does the same over many scanners and 10,000 studies each."""
    feed = Feed(db)
    feed.put(Scanner(11, findings=2).studies(1000))
    assert feed.fold() == 0
    assert feed.alarms() == set()
    with db.read() as conn:
        assert waiting_keys(conn) == ()
        (stream,) = streams(conn)
    assert stream.studies == 1000
    assert len(stream.content) < 150_000


def test_the_p_values_of_an_unchanged_scanner_are_not_too_small() -> None:
    """Under no shift a p-value below q must come at most in a share q of the looks: here the means, the least robust of all."""
    scanner, found = Scanner(3), []
    rows = np.array([one.sketch for one in scanner.studies(60 * 250)])
    for number in range(60):
        some = rows[number * 250 : (number + 1) * 250]
        found.append(mean_shift(some[:150], some[150:]).p_value)
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_the_statistics_agree_with_their_definitions() -> None:
    draw = np.random.default_rng(1)
    baseline = draw.normal(size=1000)
    assert stability_index(baseline, baseline) == pytest.approx(0, abs=1e-9)
    assert stability_index(baseline, draw.normal(1, 1, 1000)) > 0.25
    assert rate(np.zeros(100), np.ones(100)).effect == 1
    shifted = mean_shift(draw.normal(size=(20000, 2)), draw.normal([1, 0], 1, (20000, 2)))
    assert shifted.effect == pytest.approx(1, abs=0.05)


def test_a_stream_is_folded_once_however_often_its_reading_is_saved(db: Database) -> None:
    reading = GreyReader().refuse("nothing to read")
    for _ in range(3):
        with db.write() as conn:
            observe(conn, study_uid="1.2", revision=1, reading_name="cxr", reading=reading, scanner="", now=5.0)
    with db.read() as conn:
        ((key, count, _),) = waiting_keys(conn)
    assert (key.scanner, count) == ("unknown", 1)
    assert fold(db, SETTINGS, 6.0).studies == 0, "too few for a look"
    assert fold(db, SETTINGS, 6.0 + 3600).studies == 1


def test_leaving_word_costs_the_worker_less_than_two_milliseconds(db: Database) -> None:
    reading = replace(GreyReader().refuse("nothing"), sketch=(0.125,) * SKETCH_WIDTH)
    took = []
    with db.write() as conn:
        for number in range(50):
            began = time.process_time()
            observe(conn, study_uid=f"1.{number}", revision=1, reading_name="cxr", reading=reading, scanner="S", now=1.0)
            took.append(time.process_time() - began)
    assert sorted(took)[len(took) // 2] < 0.002


def test_what_an_observation_holds_survives_its_packing() -> None:
    reading = GreyReader().refuse("the study holds no radiograph")
    reading = replace(reading, draft=DraftReport((Sentence("Two words.", 0.5),), omits=("x",)), sketch=(0.5, 0.25))
    made = observation_of(reading)
    assert made == Observation({"pneumothorax": None, "pleural_effusion": None}, (0.5, 0.25), 2, True, True)
    assert Observation.unpacked(made.packed()) == made
    assert models_of(reading).startswith("mean grey phantom")
    assert len(models_of(reading)) <= 64


def test_more_scanners_than_may_be_told_apart_share_a_stream(db: Database) -> None:
    feed = Feed(db, SETTINGS.model_copy(update={"streams": 2}))
    for number in range(4):
        feed.put(Scanner(number, findings=1).studies(LOOK), f"MAKER / {number} / -")
    for _ in range(3):
        feed.fold()
    with db.read() as conn:
        assert {row.scanner for row in streams(conn)} <= {"MAKER / 0 / -", "MAKER / 1 / -", OTHER}
        assert sum(row.studies for row in streams(conn)) == 4 * LOOK


def test_a_new_baseline_ends_the_alarm_and_a_reset_forgets(db: Database) -> None:
    feed, scanner = Feed(db), Scanner(5)
    feed.put(scanner.studies(300))
    feed.put(scanner.studies(160, words=40))
    feed.fold()
    assert feed.alarms() == {"draft length"}
    with db.read() as conn:
        (stream,) = streams(conn)
    feed.put(scanner.studies(160, words=40))
    feed.fold()
    narrow = SETTINGS.model_copy(update={"baseline_studies": 160})
    assert set_baseline(db, (stream.id,), narrow, 1.0) == {stream.id: 160}
    feed.put(scanner.studies(160, words=40))
    feed.fold()
    assert feed.alarms() == set()
    reset(db, (stream.id,))
    with db.read() as conn:
        assert (streams(conn), drift_signals_of(conn)) == ((), ())


def _header(**values: str) -> Instance:
    header = Dataset()
    for name, value in values.items():
        setattr(header, name, value)
    return Instance(Path("x"), header)


@pytest.mark.parametrize(
    ("header", "label"),
    [
        pytest.param({}, "unknown", id="nothing said"),
        pytest.param({"Manufacturer": "Acme, Inc."}, "ACME INC. / - / -", id="maker only"),
        pytest.param(
            {"Manufacturer": "Acme", "ManufacturerModelName": "Ray 3", "StationName": "room-2"},
            "ACME / RAY 3 / ROOM-2",
            id="all",
        ),
        pytest.param({"StationName": "MRN 12345678"}, "- / - / MRN N", id="a number that may be a patient's"),
        pytest.param({"Manufacturer": "x" * 60}, "X" * 24 + " / - / -", id="too long"),
        pytest.param({"Manufacturer": "Müller;x"}, "M LLER X / - / -", id="unfit characters"),
    ],
)
def test_the_label_of_a_scanner_is_short_and_harmless(header: dict[str, str], label: str) -> None:
    assert scanner_of([_header(**header)]) == label


def test_the_sketch_keeps_distances_and_is_the_same_everywhere() -> None:
    assert SKETCH_WIDTH == MADE_WIDTH
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(200, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = np.array([sketch_of(one[None]) for one in vectors])
    ratios = np.linalg.norm(made[1:] - made[:-1], axis=1) / np.linalg.norm(vectors[1:] - vectors[:-1], axis=1)
    assert 0.9 < ratios.mean() < 1.1
    assert sketch_of(np.eye(1, 512, dtype=np.float32))[:4] == (0.17678, -0.17678, 0.17678, 0.17678)
    assert sketch_of(np.empty((0, 512), np.float32)) == ()
