"""What peers may query, the commitment they ask for, and studies that we ask for, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from dicom_node.storage.commitments_asked import (
    Ask,
    Noted,
    give_up,
    held_objects,
    note_ask,
    report_later,
    reported,
    take_due,
)
from dicom_node.storage.database import Database
from dicom_node.storage.events import list_events
from dicom_node.storage.index import (
    InstanceEntry,
    Narrow,
    Row,
    SeriesEntry,
    StudyEntry,
    files_of,
    forget,
    indexed,
    name_key_of,
    put,
    search_instances,
    search_series,
    search_studies,
    sources,
    stale,
)
from dicom_node.storage.instances import ConflictRule, InstanceRow, NewInstance, record_instance, record_instances
from dicom_node.storage.jobs import JobKind, NewJob, enqueue, list_jobs
from dicom_node.storage.priors import (
    Prior,
    PriorState,
    change,
    have_results,
    note_priors,
    priors_of,
    take,
    wait_no_longer,
    waiting_for_priors,
)
from dicom_node.storage.pulls import Pulled, PullReason, count_held, note_pulled, pulled
from dicom_node.storage.results import NewDocument, NewResult, save_document, save_result

DX = "1.2.840.10008.5.1.4.1.1.1.1"


def instance(sop_uid: str = "1.1.1", study_uid: str = "1.1") -> NewInstance:
    return NewInstance(sop_uid, DX, "1.1.0", study_uid, "1.2.840.10008.1.2.1", f"instances/{sop_uid}", 1, sop_uid, "p")


def document(uid: str, held: str = "", study_uid: str = "1.1") -> NewDocument:
    return NewDocument(
        uid, "findings-sr", f"documents/{uid}", study_uid, 1, "chest", "application/dicom", 1, "a", "1.88", "1.9", held
    )


def entered(db: Database, study_uid: str, name: str, day: str, modality: str) -> None:
    study = StudyEntry(
        study_uid,
        f"ID-{name}",
        name_key_of(name),
        f"A-{name}",
        day,
        f"\\{modality}\\SR\\",
        json.dumps({"of": study_uid}),
        "1.1+0",
    )
    series = SeriesEntry(f"{study_uid}.1", study_uid, modality, '{"s": 1}')
    image = InstanceEntry(f"{study_uid}.1.1", series.series_uid, study_uid, DX, "1.2", f"p/{study_uid}", '{"i": 1}')
    with db.write() as conn:
        put(conn, study, [series], [image])


@pytest.fixture
def three(db: Database) -> Database:
    entered(db, "1.1", "Smith^Ann^^", "20260101", "DX")
    entered(db, "1.2", "Smith_son^Bob", "20260301", "CT")
    entered(db, "1.3", "Müller^Jörg", "20250101", "DX")
    return db


NARROWED = {
    "all, the newest first": (Narrow(), ["1.2", "1.1", "1.3"]),
    "by UID": (Narrow(study_uids=("1.1", "9")), ["1.1"]),
    "by patient": (Narrow(patient_id="ID-Müller^Jörg"), ["1.3"]),
    "by accession number": (Narrow(accession_number="A-Smith^Ann^^"), ["1.1"]),
    "by the beginning of a name": (Narrow(name_prefix="SMITH"), ["1.2", "1.1"]),
    "an underscore is none but itself": (Narrow(name_prefix="SMITH_"), ["1.2"]),
    "from": (Narrow(since="20260101"), ["1.2", "1.1"]),
    "until": (Narrow(until="20260101"), ["1.1", "1.3"]),
    "by modality": (Narrow(modality_in_study="DX"), ["1.1", "1.3"]),
    "by part of one": (Narrow(modality_in_study="D"), []),
}


@pytest.mark.parametrize(("narrow", "found"), NARROWED.values(), ids=NARROWED)
def test_search(three: Database, narrow: Narrow, found: list[str]) -> None:
    with three.read() as conn:
        assert [json.loads(row.study)["of"] for row in search_studies(conn, narrow)] == found


def test_levels_files_and_forgetting(three: Database) -> None:
    with three.read() as conn:
        assert len(list(search_series(conn, Narrow(modality="DX")))) == 2
        assert list(search_instances(conn, Narrow(sop_uids=("1.2.1.1",)))) == [Row('{"of": "1.2"}', '{"s": 1}', '{"i": 1}')]
        assert [one.path for one in files_of(conn, Narrow(("1.1", "1.2"), ("1.2.1",)))] == ["p/1.2"]
        assert files_of(conn, Narrow(patient_id="ID-Smith")) == ()
        assert indexed(conn, "1.1")[1]["1.1.1.1"].series == '{"s": 1}'
    entered(three, "1.1", "Smith^Ann", "20260101", "DX")  # again
    with three.write() as conn:
        forget(conn, "1.1")
    with three.read() as conn:
        assert len(list(search_studies(conn, Narrow()))) == 2


def test_what_is_new_is_stale_until_it_is_entered(db: Database) -> None:
    with db.write() as conn:
        record_instance(conn, instance(), 100)
        assert stale(conn, 0, 100) == ()  # it may still be under transfer
        assert stale(conn, 0, 101) == stale(conn, 100, 101) == (("1.1", "1.1+0"),)
        assert stale(conn, 101, 102) == ()
        save_document(conn, document("1.8"), 200)
        save_document(conn, document("1.7", held="breaks a rule"), 200)
        assert stale(conn, 150, 300) == (("1.1", "1.1+1"),)
        assert {one.sop_uid for one in sources(conn, "1.1")} == {"1.1.1", "1.8"}
    with db.write() as conn:
        put(conn, StudyEntry("1.1", "", "", "", "", "\\", "{}", "1.1+1"), [], [])
        assert stale(conn, 0, 300) == ()


def test_a_request_for_commitment_lives_until_it_is_reported(db: Database) -> None:
    ask = Ask("2.1", "PACS", "WETREAD", ((DX, "1.1.1"),))
    with db.write() as conn:
        assert note_ask(conn, ask, 100) is Noted.NEW
        assert note_ask(conn, ask, 101) is Noted.KNOWN
        assert note_ask(conn, Ask("2.1", "PACS", "WETREAD", ((DX, "9"),)), 102) is Noted.ANOTHER
        own = Ask("2.1", "OTHER", "WETREAD", ((DX, "9"),))  # another peer's own number
        assert note_ask(conn, own, 102, claim_s=5) is Noted.NEW
    assert take_due(db, 60, 99) == ()
    assert {one.calling_ae for one in take_due(db, 60, 110)} == {"PACS", "OTHER"}
    assert take_due(db, 60, 120) == ()  # somebody reports them
    with db.write() as conn:
        reported(conn, ask)
        report_later(conn, Ask("2.1", "OTHER", "WETREAD", ()), "down", 500)
    assert take_due(db, 60, 499) == ()
    (other,) = take_due(db, 60, 500)
    assert (other.attempts, other.asked_at) == (1, 102)
    with db.write() as conn:
        give_up(conn, other, "down", 600)
        assert "given up: down" in list_events(conn)[0].text
    assert take_due(db, 60, 1e9) == ()


def test_what_is_held_under_a_uid(db: Database) -> None:
    with db.write() as conn:
        record_instance(conn, instance(), 100)
        save_document(conn, document("1.8"), 100)
        held = held_objects(conn, ["1.1.1", "1.8", "9"])
    assert {uid: [(one.sop_class_uid, one.received) for one in found] for uid, found in held.items()} == {
        "1.1.1": [(DX, True)],
        "1.8": [("1.88", False)],
    }


def test_a_study_that_we_asked_for_keeps_its_rank_for_some_days(db: Database) -> None:
    with db.write() as conn:
        assert pulled(conn, "1.1", 100) is None
        for rank in (Pulled(PullReason.PULL, 30), Pulled(PullReason.PRIOR, 10)):
            note_pulled(conn, "1.1", rank, 100)
        assert pulled(conn, "1.1", 200) == Pulled(PullReason.PRIOR, 10)
        assert pulled(conn, "1.1", 100 + 30 * 86400) is None
        record_instance(conn, instance(), 100)
        assert (count_held(conn, "1.1"), count_held(conn, "1.2")) == (1, 0)


def test_a_reading_waits_for_priors_that_somebody_looks_for_once(db: Database) -> None:
    with db.write() as conn:
        for study, payload, due in (("1.1", {"priors": {}}, 200), ("1.2", {}, 200), ("1.3", {"priors": {}}, 50)):
            enqueue(conn, NewJob(JobKind.READ, "read", study, study, payload, 10, due), 100)
        (job,) = waiting_for_priors(conn, 100)
        assert job.study_uid == "1.1"
        assert (take(conn, "1.1", 100), take(conn, "1.1", 100)) == (True, False)
        assert waiting_for_priors(conn, 100) == ()
        note_priors(conn, "1.1", [Prior("0.1", "20240101"), Prior("0.2", "20250101")], 100)
        change(conn, "1.1", "0.1", PriorState.HERE)
        found = (Prior("0.2", "20250101"), Prior("0.1", "20240101", PriorState.HERE))
        assert priors_of(conn, "1.1") == found
        save_result(conn, NewResult("0.1", 1, "chest", "{}"), 100)
        assert have_results(conn, ["0.1", "0.2"], "chest") == {"0.1"}
        wait_no_longer(conn, job, 120)
    assert [one.not_before for one in list_jobs(db, study_uid="1.1")] == [120]


def test_a_study_whose_image_was_replaced_is_entered_again(db: Database) -> None:
    """By the rule "newest" its number of images stays as it is; peers must get the one that is read."""
    with db.write() as conn:
        record_instance(conn, instance(), 1.0)
        ((_, covered),) = stale(conn, 0.0, 5.0)
        put(conn, StudyEntry("1.1", "", "", "", "", "", "{}", covered), [], [])
        assert stale(conn, 0.0, 5.0) == ()
        corrected = replace(instance(), sha256="other", path="instances/corrected")
        record_instances(conn, [_Incoming(corrected)], 2.0, ConflictRule.NEWEST)
        assert [one.path for one in sources(conn, "1.1")] == ["instances/corrected"]
        assert [uid for uid, _ in stale(conn, 0.0, 5.0)] == ["1.1"]


@dataclass(frozen=True)
class _Incoming:
    new: NewInstance

    def same_as(self, held: InstanceRow) -> bool:
        return held.sha256 == self.new.sha256

    def place(self, _copy: int) -> str:
        return self.new.path
