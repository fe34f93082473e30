"""Stored, duplicate, conflict: what becomes of rows, studies and events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.errors import StorageError
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, list_events, record_event
from dicom_node.storage.instances import NewInstance, Outcome, Recorded, find_instance, instances_of, record_instance
from dicom_node.storage.studies import dirty_studies, get_study, list_studies, open_revision, restart_quiet_time

FIRST = NewInstance(
    sop_uid="1.2.3.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    series_uid="1.2.3",
    study_uid="1.2",
    transfer_syntax="1.2.840.10008.1.2.1",
    path="instances/a.dcm",
    size=10,
    sha256="a" * 64,
    patient_digest="p" * 64,
    calling_ae="SENDER",
    called_ae="WETREAD",
    host="127.0.0.1",
    modality="DX",
)


def _record(db: Database, instance: NewInstance, now: float = 100.0) -> Recorded:
    with db.write() as conn:
        return record_instance(conn, instance, now)


def test_a_new_instance_makes_its_study_dirty(db: Database) -> None:
    assert _record(db, FIRST) == Recorded(Outcome.STORED, 0)
    with db.read() as conn:
        study = get_study(conn, "1.2")
        (row,) = instances_of(conn, "1.2")
    assert study is not None
    assert (study.dirty, study.revision, study.instance_count, study.last_instance_at) == (True, 0, 1, 100.0)
    assert (row.sop_uid, row.copy, row.set_aside, row.modality, row.received_at) == ("1.2.3.1", 0, False, "DX", 100.0)


def test_the_same_again_changes_nothing(db: Database) -> None:
    _record(db, FIRST)
    with db.write() as conn:
        open_revision(conn, "1.2")
        before = get_study(conn, "1.2")
    assert _record(db, replace(FIRST, host="10.0.0.9"), now=200.0) == Recorded(Outcome.DUPLICATE, 0)
    with db.read() as conn:
        assert get_study(conn, "1.2") == before
        assert len(find_instance(conn, "1.2.3.1")) == 1
        assert list_events(conn) == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param({"sha256": "b" * 64, "path": "b"}, "other content", id="other bytes"),
        pytest.param({"sha256": "b" * 64, "path": "b", "series_uid": "1.9"}, "other content", id="other series"),
        pytest.param({"sha256": "b" * 64, "path": "b", "study_uid": "1.9"}, "another study", id="other study"),
        pytest.param({"sop_uid": "1.2.3.2", "patient_digest": "q" * 64}, "another patient", id="other patient in the study"),
    ],
)
def test_a_conflict_is_kept_set_aside_and_alerted(db: Database, change: dict[str, str], text: str) -> None:
    _record(db, FIRST)
    with db.write() as conn:
        open_revision(conn, "1.2")
    other = replace(FIRST, **change)
    assert _record(db, other).outcome is Outcome.CONFLICT
    assert _record(db, other).outcome is Outcome.DUPLICATE
    with db.read() as conn:
        assert [row.sop_uid for row in instances_of(conn, "1.2")] == ["1.2.3.1"]
        assert find_instance(conn, FIRST.sop_uid)[0].path == FIRST.path
        assert find_instance(conn, other.sop_uid)[-1].set_aside
        assert dirty_studies(conn) == ()
        (event,) = list_events(conn)
    assert (event.kind, event.severity) == (EventKind.CONFLICT, Severity.ALERT)
    assert text in event.text


def test_a_late_instance_makes_the_study_dirty_for_the_next_revision(db: Database) -> None:
    _record(db, FIRST)
    with db.write() as conn:
        assert open_revision(conn, "1.2") == 1
        assert dirty_studies(conn) == ()
    _record(db, replace(FIRST, sop_uid="1.2.3.2"), now=300.0)
    with db.write() as conn:
        (study,) = dirty_studies(conn)
        assert (study.revision, study.instance_count) == (1, 2)
        assert open_revision(conn, "1.2") == 2


def test_a_study_that_is_not_there_opens_no_revision(db: Database) -> None:
    with pytest.raises(StorageError, match="no study"), db.write() as conn:
        open_revision(conn, "9.9")


def test_times_from_the_future_are_brought_back(db: Database) -> None:
    _record(db, FIRST, now=1000.0)
    with db.write() as conn:
        restart_quiet_time(conn, 500.0)
        (study,) = list_studies(conn)
    assert study.last_instance_at == 500.0


def test_a_long_event_is_cut_and_found_by_its_kind(db: Database) -> None:
    with db.write() as conn:
        record_event(conn, NewEvent(EventKind.FAILURE, "x" * 2000, Severity.ALERT, calling_ae="Y" * 40), 5.0)
        record_event(conn, NewEvent(EventKind.UNREADABLE, "y"), 6.0)
        assert [len(event.text) for event in list_events(conn, kind=EventKind.FAILURE)] == [500]
        assert [event.text for event in list_events(conn, since=6.0)] == ["y"]
