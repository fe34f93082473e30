"""`wetread jobs` over a real database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node import jobs_view
from dicom_node.errors import SettingsError
from dicom_node.reading_json import to_json
from dicom_node.storage.commitments import StoredObject, begin
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, record_event
from dicom_node.storage.jobs import JobKind, JobState, NewJob, bury, claim, enqueue, get_job, list_jobs
from dicom_node.storage.outbox import DestinationState, save_state
from dicom_node.storage.results import NewDocument, NewResult, save_document, save_result
from inference.reading import Decision, HeadVersion, Method
from tests.support import GreyReader

STUDY = "2.25.77"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text("data: data\n", "utf-8")
    return path


@pytest.fixture
def db(config: Path) -> Iterator[Database]:
    """Job 1: a reading that waits. Job 2: a delivery that was given up."""
    (config.parent / "data").mkdir()
    with closing(Database.open(config.parent / "data" / "wetread.sqlite")) as db:
        now = time.time()
        with db.write() as conn:
            enqueue(conn, NewJob(JobKind.READ, "read", "read:1", STUDY, {"revision": 1}, priority=0), now - 7300)
            enqueue(conn, NewJob(JobKind.DELIVER, "pacs", "deliver:1", STUDY, {"document": "2.25.5"}), now)
            save_result(conn, NewResult(STUDY, 1, "chest_xray", "{}"), now)
            for uid in ("2.25.5", "2.25.6"):
                save_document(
                    conn, NewDocument(uid, "draft-sr", f"documents/{uid}", STUDY, 1, "c", "application/dicom", 9, "0"), now
                )
            record_event(conn, NewEvent(EventKind.CONFLICT, "same UID, other bytes", study_uid=STUDY), now)
            record_event(conn, NewEvent(EventKind.CONFLICT, "of another study", study_uid="2.25.78"), now)
        (job,) = claim(db, JobKind.DELIVER, "pacs", "me", 1, 60, now + 1)
        bury(db, job, "me", "the peer [refuses] it", now + 1)
        yield db


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def test_a_node_that_never_ran_has_no_jobs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs_view.show_list(config, None, None, 50) == 0
    assert capsys.readouterr().out.strip() == "no jobs yet"


@pytest.mark.usefixtures("db")
def test_list_counts_and_names_each_job(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs_view.show_list(config, None, None, 50) == 0
    counts, _, newest, oldest = capsys.readouterr().out.splitlines()
    assert counts.split() == ["1", "queued", "0", "leased", "0", "awaiting", "0", "done", "1", "dead"]
    assert newest.split()[:6] == ["2", "deliver", "pacs", "dead", "ROUTINE", "1"]
    assert newest.rstrip().endswith("the peer [refuses] it")  # brackets are no markup
    assert oldest.split()[:8] == ["1", "read", "read", "queued", "STAT", "0", "2", "h"]


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("state", "kind", "shown"),
    [
        pytest.param("dead", None, ["2"], id="by state"),
        pytest.param("DEAD", None, ["2"], id="state in capitals"),
        pytest.param(None, "read", ["1"], id="by kind"),
        pytest.param("done", None, [], id="none of that state"),
    ],
)
def test_list_chooses(
    config: Path, capsys: pytest.CaptureFixture[str], state: str | None, kind: str | None, shown: list[str]
) -> None:
    jobs_view.show_list(config, state, kind, 50)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == shown


@pytest.mark.usefixtures("db")
def test_an_unknown_state_names_what_is_allowed(config: Path) -> None:
    with pytest.raises(SettingsError, match="queued, leased, awaiting, done, dead"):
        jobs_view.show_list(config, "broken", None, 50)
    with pytest.raises(SettingsError, match="read, deliver"):
        jobs_view.show_list(config, None, "broken", 50)


@pytest.mark.usefixtures("db")
def test_show_a_delivery_with_its_document_and_the_events_of_its_study(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jobs_view.show_one(config, 2) == 0
    out = capsys.readouterr().out
    assert "documents/2.25.5" in out
    assert "documents/2.25.6" not in out
    assert "same UID, other bytes" in out
    assert "of another study" not in out
    assert "the peer [refuses] it" in out


@pytest.mark.usefixtures("db")
def test_show_a_reading_with_all_it_made(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs_view.show_one(config, 1) == 0
    out = capsys.readouterr().out
    assert "result of revision 1 (chest_xray)" in out
    assert "documents/2.25.5" in out
    assert "documents/2.25.6" in out


@pytest.mark.usefixtures("db")
def test_show_says_where_there_is_no_such_job(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs_view.show_one(config, 99) == 1
    assert "no job 99" in capsys.readouterr().out


def test_retry_queues_a_dead_job(config: Path, db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs_view.retry(config, [2]) == 0
    assert "job 2 is queued again" in capsys.readouterr().out
    again = get_job(db, 2)
    assert again is not None
    assert again.state is JobState.QUEUED


def test_retry_of_many_does_all_it_can_and_says_what_it_could_not(
    config: Path, db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    claim(db, JobKind.READ, None, "me", 1, 60, time.time())
    assert jobs_view.retry(config, [99, 1, 2]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [("no job 99" in lines[0]), ("job 1 is leased" in lines[1]), ("job 2 is queued" in lines[2])] == [True] * 3
    assert {job.id: job.state for job in list_jobs(db)} == {1: JobState.LEASED, 2: JobState.QUEUED}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (86399, "23 h"), (86400, "1 d")],
)
def test_age(seconds: float, words: str) -> None:
    assert jobs_view.age(seconds) == words


@pytest.mark.parametrize(("priority", "words"), [(0, "STAT"), (20, "ROUTINE"), (5, "5")])
def test_priority_name(priority: int, words: str) -> None:
    assert jobs_view.priority_name(priority) == words


def test_a_result_with_heads_names_them_and_how_each_finding_was_judged(
    db: Database, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = GreyReader().refuse("nothing to read")
    probed = replace(reading.findings[0], decision=Decision.POSITIVE, probability=0.75, reason="", method=Method.PROBE)
    heads = (HeadVersion("calibration", "site", "3", "ef" * 32), HeadVersion("probe in shadow", "trial", "1", "01" * 32))
    with db.write() as conn:
        text = to_json(replace(reading, heads=heads, shadow=(probed,)))
        save_result(conn, NewResult(STUDY, 1, "chest_xray", text), time.time())
    assert jobs_view.show_one(config, 1) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert f"calibration site 3, sha256 {'ef' * 32}" in lines
    assert f"probe in shadow trial 1, sha256 {'01' * 32}" in lines
    assert "pneumothorax: not assessable, by zero-shot" in lines
    assert "pneumothorax: positive 0.750, by probe in shadow" in lines


@pytest.mark.usefixtures("db")
def test_a_result_of_another_version_does_not_hide_the_job(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs_view.show_one(config, 1) == 0
    assert "a stored reading cannot be read back" in capsys.readouterr().out


def test_destinations_show_what_waits_and_why(config: Path, db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    destinations = "{pacs: {kind: folder, path: out}, idle: {kind: folder, path: idle}}"
    config.write_text(f"data: data\ndestinations: {destinations}\n", "utf-8")
    with db.write() as conn:
        enqueue(conn, NewJob(JobKind.DELIVER, "gone", "deliver:2", STUDY, {"document": "2.25.6"}), time.time())
    save_state(db, DestinationState("pacs", "node-1", "open", 7, 1_700_000_000, 1_700_000_060, "PACS: no association"))
    assert jobs_view.show_destinations(config) == 0
    assert capsys.readouterr().out.splitlines() == [
        "gone: 1 queued; NOT IN THE SETTINGS: nobody delivers this",
        "idle: nothing yet",
        "pacs: 1 dead",
        "  node-1: open since 2023-11-14 22:13:20 UTC after 7 failures, next try 2023-11-14 22:14:20 UTC: PACS: no association",
    ]


def test_all_dead_deliveries_of_a_destination_are_sent_again(
    config: Path, db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jobs_view.retry(config, [], "pacs") == 0
    assert "1 dead deliveries to pacs are queued again" in capsys.readouterr().out
    (job,) = [job for job in list_jobs(db) if job.queue == "pacs"]
    assert (job.state, job.first_error_at) == (JobState.QUEUED, None)
    with pytest.raises(SettingsError, match="--destination"):
        jobs_view.retry(config, [])


def test_what_awaits_commitment_says_how_often_it_was_stored(
    config: Path, db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs_view.retry(config, [], "pacs")
    (job,) = claim(db, JobKind.DELIVER, "pacs", "me", 1, 60, time.time() + 1)
    with db.write() as conn:
        begin(conn, job, "me", StoredObject("1.2.840.1", "2.25.5"), 1_700_000_000)
    assert jobs_view.show_one(config, job.id) == 0
    out = capsys.readouterr().out
    assert "awaiting" in out
    assert "stored 1 times, last 2023-11-14 22:13:20 UTC; commitment asked for 0 times since, transaction to be made" in out
