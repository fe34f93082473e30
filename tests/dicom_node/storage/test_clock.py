"""The shared clock: the database's time, whatever this machine's clock says."""

from __future__ import annotations

import time

import pytest

from dicom_node.errors import StorageBusy
from dicom_node.storage import clock
from dicom_node.storage.clock import SharedClock
from dicom_node.storage.database import Database


class Machine:
    """A machine whose steady clock is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 100.0
        self.asked = 0
        self.away = False
        self.answer_takes = 0.0
        monkeypatch.setattr(clock, "_steady", lambda: self.at)

    def database_time(self) -> float:
        self.asked += 1
        self.at += self.answer_takes / 2
        told = 5_000_000.0 + self.at
        self.at += self.answer_takes / 2
        if self.away:
            raise StorageBusy("away")
        return told


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_the_database_s_time_is_told_and_carried_on(machine: Machine) -> None:
    shared = SharedClock(machine.database_time)
    assert shared.now() == 5_000_100.0
    machine.at += 20
    assert shared.now() == 5_000_120.0
    assert machine.asked == 1
    machine.at += 20
    assert shared.now() == 5_000_140.0
    assert machine.asked == 2


def test_half_of_the_way_there_and_back_is_allowed_for(machine: Machine) -> None:
    machine.answer_takes = 0.4
    shared = SharedClock(machine.database_time)
    assert shared.now() == pytest.approx(5_000_000.0 + machine.at)


def test_a_slow_answer_does_not_replace_a_good_one(machine: Machine) -> None:
    shared = SharedClock(machine.database_time)
    shared.now()
    machine.at += 60
    machine.answer_takes = 8.0
    before = 5_000_000.0 + machine.at
    assert shared.now() == pytest.approx(before + 8.0)


def test_a_database_that_is_away_leaves_the_last_answer_in_force(machine: Machine) -> None:
    shared = SharedClock(machine.database_time)
    shared.now()
    machine.away = True
    machine.at += 1000
    assert shared.now() == 5_001_100.0
    assert shared.now() == 5_001_100.0
    assert machine.asked == 2


def test_both_databases_tell_the_time_of_day(db: Database) -> None:
    assert db.now() == pytest.approx(time.time(), abs=5)
    first = db.now()
    assert db.now() >= first
