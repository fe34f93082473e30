"""The shared clock: the database's time, or this machine's without its leaps, whatever this machine's clock says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import StorageBusy
from dicom_node.storage import clock
from dicom_node.storage.clock import MachineTime, SharedClock
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import JobKind, NewJob, claim, enqueue, get_job, heartbeat, retry_later

HOUR = 3600.0
NOON = 1_700_000_000.0


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


def test_a_database_that_never_told_the_time_is_no_reason_to_go_by_this_machine(machine: Machine) -> None:
    machine.away = True
    shared = SharedClock(machine.database_time)
    with pytest.raises(StorageBusy):
        shared.now()
    machine.away = False
    assert shared.now() == 5_000_100.0


class Leaping:
    """A machine whose clock is ``ahead`` of the time, which goes on by ``steady``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steady = 500.0
        self.ahead = 0.0
        monkeypatch.setattr(clock, "_steady", lambda: self.steady)
        monkeypatch.setattr(clock.time, "time", lambda: self.true + self.ahead)
        monkeypatch.setattr(clock, "boot", lambda: "b00t")

    @property
    def true(self) -> float:
        return NOON + self.steady


@pytest.fixture
def leaping(monkeypatch: pytest.MonkeyPatch) -> Leaping:
    return Leaping(monkeypatch)


@pytest.mark.parametrize("leap", [3 * HOUR, -2 * HOUR, 400 * 86400.0, -60.0])
def test_a_leap_of_the_machine_s_clock_is_none_of_the_node_s(leap: float, leaping: Leaping, tmp_path: Path) -> None:
    one, other = MachineTime(tmp_path / "clock"), MachineTime(tmp_path / "clock")
    assert one() == other() == leaping.true
    leaping.ahead = leap
    before = one()
    for _ in range(30):
        leaping.steady += 1.0
        told = one(), other(), MachineTime(tmp_path / "clock")()  # the last of a process that has just started
        assert told[0] == pytest.approx(told[1], abs=0.001) == pytest.approx(told[2], abs=0.001)
        assert 0.75 <= told[0] - before <= 1.25
        before = told[0]
    leaping.ahead = 0.0
    for _ in range(30):
        leaping.steady += 1.0
        one()
    assert one() == pytest.approx(leaping.true, abs=0.01)


def test_a_clock_that_was_wrong_is_followed_in_four_times_its_error(leaping: Leaping, tmp_path: Path) -> None:
    told = MachineTime(tmp_path / "clock")
    told()
    leaping.ahead = HOUR
    for _ in range(int(4 * HOUR / 30) + 1):
        leaping.steady += 30
        told()
    assert told() == pytest.approx(leaping.true + HOUR)


@pytest.mark.parametrize("error", [56 * 365 * 86400.0, -7 * HOUR])
def test_a_great_error_is_put_right_when_it_has_lasted(error: float, leaping: Leaping, tmp_path: Path) -> None:
    """As where a machine without a battery begins in 1970, until it hears of the time."""
    leaping.ahead = -error
    MachineTime(tmp_path / "clock")()
    leaping.ahead = 0.0
    for _ in range(19):
        leaping.steady += 30
        MachineTime(tmp_path / "clock")()
    assert abs(MachineTime(tmp_path / "clock")() - leaping.true) > 6 * HOUR
    for _ in range(3):
        leaping.steady += 30
        MachineTime(tmp_path / "clock")()
    assert MachineTime(tmp_path / "clock")() == pytest.approx(leaping.true)


def test_a_node_that_was_stopped_takes_the_clock_as_it_stands(leaping: Leaping, tmp_path: Path) -> None:
    MachineTime(tmp_path / "clock")()
    leaping.ahead = HOUR
    leaping.steady += 61
    assert MachineTime(tmp_path / "clock")() == leaping.true + HOUR


def test_a_boot_takes_the_clock_as_it_stands(leaping: Leaping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MachineTime(tmp_path / "clock")()
    leaping.ahead = HOUR
    leaping.steady += 5
    monkeypatch.setattr(clock, "boot", lambda: "another")
    assert MachineTime(tmp_path / "clock")() == leaping.true + HOUR


@pytest.mark.parametrize("held", [b"", b"no clock", b"\xff" * 80, b"00000000 b00t 1.0 500.0\n"])
def test_a_file_that_tells_nothing_is_written_anew(held: bytes, leaping: Leaping, tmp_path: Path) -> None:
    (tmp_path / "clock").write_bytes(held)
    assert MachineTime(tmp_path / "clock")() == leaping.true
    leaping.ahead = HOUR
    leaping.steady += 4
    assert MachineTime(tmp_path / "clock")() == leaping.true + 1.0


def test_where_no_file_can_be_written_the_process_goes_on_alone(leaping: Leaping, tmp_path: Path) -> None:
    told = MachineTime(tmp_path / "nowhere" / "clock")
    assert told() == leaping.true
    leaping.ahead = -HOUR
    leaping.steady += 4
    assert told() == leaping.true - 1.0


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Database, Database]]:
    """Two processes of one machine."""
    found = Database.open(tmp_path / "node.sqlite"), Database.open(tmp_path / "node.sqlite")
    yield found
    for one in found:
        one.close()


@pytest.mark.parametrize("leap", [3 * HOUR, -2 * HOUR])
def test_leases_and_retries_outlive_a_leap(leap: float, leaping: Leaping, two: tuple[Database, Database]) -> None:
    one, other = two
    with one.write() as conn:
        enqueue(conn, NewJob(JobKind.DELIVER, "pacs", "key", "1.2", {}), one.now())
    (job,) = claim(one, JobKind.DELIVER, "pacs", "one", 1, 30.0, one.now())
    leaping.ahead = leap
    for _ in range(3):
        leaping.steady += 10
        assert not claim(other, JobKind.DELIVER, "pacs", "other", 1, 30.0, other.now())
        assert heartbeat(one, "one", [job.id], 30.0, one.now())
    now = one.now()
    retry_later(one, job, "one", "the peer is away", now + 10, now)
    leaping.ahead = 0.0
    leaping.steady += 5
    assert not claim(other, JobKind.DELIVER, "pacs", "other", 1, 30.0, other.now())
    leaping.steady += 10
    (again,) = claim(other, JobKind.DELIVER, "pacs", "other", 1, 30.0, other.now())
    assert again.first_error_at == pytest.approx(leaping.true, abs=60)  # 72 hours count from there
    assert get_job(one, job.id) == again
