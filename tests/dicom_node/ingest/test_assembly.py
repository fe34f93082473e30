"""From instances to revisions and read jobs; also when clocks jump and processes die."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.ingest.assembly import Assembler, Plan, QuietTime
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, list_events
from dicom_node.storage.instances import InstanceRow, NewInstance, record_instance
from dicom_node.storage.jobs import JobKind, list_jobs
from dicom_node.storage.studies import StudyRow, dirty_studies, get_study


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "node.sqlite")
    yield database
    database.close()


def _arrive(db: Database, sop_uid: str, now: float, study_uid: str = "1.2", patient: str = "p") -> None:
    new = NewInstance(
        sop_uid, "1.2.840", f"{study_uid}.1", study_uid, "1.2", "path", 1, sop_uid.rjust(64, "0"), patient, modality="DX"
    )
    with db.write() as conn:
        record_instance(conn, new, now)


def _plan(study: StudyRow, instances: tuple[InstanceRow, ...]) -> Plan:
    return Plan("chest", 0, ("pacs",), {"images": [row.sop_uid for row in instances], "study": study.study_uid})


def _assembler(db: Database, seconds: float = 10.0) -> Assembler:
    return Assembler(db, QuietTime(seconds), _plan)


def _keys(db: Database) -> list[str]:
    return sorted(job.idempotency_key for job in list_jobs(db))


def test_a_quiet_study_becomes_one_job(db: Database) -> None:
    _arrive(db, "1", 100.0)
    _arrive(db, "2", 105.0)
    assembler = _assembler(db)
    assert assembler.settle(114.9) == 0
    assert assembler.settle(115.0) == 1
    assert assembler.settle(500.0) == 0
    (job,) = list_jobs(db)
    assert (job.kind, job.queue, job.idempotency_key, job.priority, job.study_uid) == (
        JobKind.READ,
        "read",
        "read:1.2:1:chest",
        0,
        "1.2",
    )
    wished = {"reading": "chest", "revision": 1, "destinations": ["pacs"], "images": ["1", "2"], "study": "1.2"}
    assert job.payload == {**wished, "because": "nothing came for 10 s"}


def test_a_late_instance_opens_a_revision_over_all_of_them(db: Database) -> None:
    assembler = _assembler(db)
    _arrive(db, "1", 100.0)
    assembler.settle(200.0)
    _arrive(db, "2", 300.0)
    assert assembler.settle(305.0) == 0
    assert assembler.settle(310.0) == 1
    assert _keys(db) == ["read:1.2:1:chest", "read:1.2:2:chest"]
    assert list_jobs(db)[0].payload["images"] == ["1", "2"]


def test_duplicates_and_other_patients_open_none(db: Database) -> None:
    assembler = _assembler(db)
    _arrive(db, "1", 100.0)
    assembler.settle(200.0)
    _arrive(db, "1", 300.0)
    _arrive(db, "9", 300.0, patient="q")
    assert assembler.settle(900.0) == 0


def test_interleaved_studies_are_told_apart(db: Database) -> None:
    for number in range(6):
        _arrive(db, str(number), 100.0 + number, f"1.{number % 2 + 1}")
    assert _assembler(db).settle(114.0) == 1
    assert _assembler(db).settle(115.0) == 1
    assert _keys(db) == ["read:1.1:1:chest", "read:1.2:1:chest"]


def test_a_clock_set_back_delays_by_one_quiet_time_at_most(db: Database) -> None:
    _arrive(db, "1", 100_000.0)
    assembler = _assembler(db)
    assert [assembler.settle(now) for now in (1000.0, 1009.9, 1010.0)] == [0, 0, 1]


def test_a_study_that_no_rule_wants_is_recorded_once(db: Database) -> None:
    _arrive(db, "1", 100.0)
    assembler = Assembler(db, QuietTime(1.0), lambda *_: None)
    assert (assembler.settle(200.0), assembler.settle(300.0)) == (1, 0)
    with db.read() as conn:
        assert [event.kind for event in list_events(conn)] == [EventKind.NOT_ROUTED]
    assert list_jobs(db) == ()


def test_a_study_that_cannot_be_planned_holds_up_no_other(db: Database) -> None:
    _arrive(db, "1", 100.0, "1.1")
    _arrive(db, "2", 101.0, "1.2")

    def plan(study: StudyRow, instances: tuple[InstanceRow, ...]) -> Plan:
        if study.study_uid == "1.1":
            raise KeyError("text of the rule")
        return _plan(study, instances)

    assembler = Assembler(db, QuietTime(1.0), plan)
    assert (assembler.settle(200.0), assembler.settle(201.0)) == (1, 0)
    assert _keys(db) == ["read:1.2:1:chest"]
    with db.read() as conn:
        assert [study.study_uid for study in dirty_studies(conn)] == ["1.1"]
        assert [event.kind for event in list_events(conn)] == [EventKind.FAILURE]


def _die_while_planning(path: str) -> None:
    def plan(*_: object) -> Plan:
        os._exit(9)

    Assembler(Database.open(path), QuietTime(1.0), plan).settle(200.0)


def test_dying_in_the_middle_opens_nothing_and_the_next_start_settles_once(db: Database, tmp_path: Path) -> None:
    _arrive(db, "1", 100.0)
    child = multiprocessing.get_context("spawn").Process(target=_die_while_planning, args=(str(tmp_path / "node.sqlite"),))
    child.start()
    child.join()
    assert child.exitcode == 9
    with db.read() as conn:
        study = get_study(conn, "1.2")
    assert study is not None
    assert (study.revision, study.dirty) == (0, True)
    assert [_assembler(db).settle(200.0) for _ in range(2)] == [1, 0]
    assert _keys(db) == ["read:1.2:1:chest"]
