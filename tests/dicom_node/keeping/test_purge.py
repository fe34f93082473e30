"""What a purge takes, what it never takes, and what is still known of what it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import insert, update

from dicom_node.keeping.purge import Purged, Purger
from dicom_node.keeping.retention import Retention
from dicom_node.keeping.rules import NEVER, Fill, cutoffs
from dicom_node.retention_settings import RetentionSettings
from dicom_node.storage.events import EventKind, NewEvent, Severity, list_events, record_event
from dicom_node.storage.instances import instances_of
from dicom_node.storage.jobs import JobKind, JobState, NewJob, enqueue, list_jobs, rerun
from dicom_node.storage.results import earlier_documents, load_document, results_of
from dicom_node.storage.retention import Kept, kept_studies, purged_note
from dicom_node.storage.studies import get_study, open_revision
from dicom_node.storage.tables import commitments_asked, jobs, priors
from tests.dicom_node.keeping.store import DAY, Made, Store

NOW = 2000 * DAY
OLD = NOW - 40 * DAY
SETTINGS = RetentionSettings(high=None, low=None)


def _purge(store: Store, settings: RetentionSettings = SETTINGS, now: float = NOW) -> Purged:
    return Purger(store.db, store.files).by_age(cutoffs(settings, now), now)


def test_a_study_that_is_read_delivered_and_old_goes_with_its_files_and_leaves_word(store: Store) -> None:
    store.make(Made("1.1", OLD, images=3, delivery=JobState.DONE))
    store.make(Made("1.2", NOW - 5 * DAY))
    done = _purge(store)
    assert (done.studies, done.images.count) == (1, 3)
    assert store.studies_with_images() == {"1.2"}
    assert store.paths() == store.rows()
    with store.db.read() as conn:
        assert purged_note(conn, "1.1") == (3, NOW)
        assert purged_note(conn, "1.2") is None
        study = get_study(conn, "1.1")
    assert study is not None
    assert (study.revision, study.instance_count) == (1, 0)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(Made("1.1", OLD, dirty=True), Kept.UNREAD, id="no revision covers it"),
        pytest.param(Made("1.1", OLD, job=JobState.QUEUED), Kept.UNFINISHED, id="its reading waits"),
        pytest.param(Made("1.1", OLD, job=JobState.LEASED), Kept.UNFINISHED, id="it is being read"),
        pytest.param(Made("1.1", OLD, delivery=JobState.QUEUED), Kept.UNFINISHED, id="undelivered"),
        pytest.param(Made("1.1", OLD, delivery=JobState.LEASED), Kept.UNFINISHED, id="being delivered"),
        pytest.param(Made("1.1", OLD, job=JobState.DEAD), Kept.DEAD, id="its reading was given up"),
        pytest.param(Made("1.1", OLD, delivery=JobState.DEAD), Kept.DEAD, id="its delivery was given up"),
        pytest.param(Made("1.1", OLD, document_at=OLD, held=True), Kept.HELD, id="a document is held"),
        pytest.param(Made("1.1", OLD, conflict_at=OLD), Kept.CONFLICT, id="an image is set aside"),
    ],
)
def test_what_is_kept_and_why(store: Store, made: Made, reason: Kept) -> None:
    store.make(made)
    before = store.paths()
    assert not _purge(store, SETTINGS.model_copy(update={"jobs_days": 0, "documents_days": 1})).studies
    with store.db.read() as conn:
        assert kept_studies(conn, NOW - 30 * DAY, NEVER) == {reason: 1}
    assert store.paths() == before == store.rows()


def test_a_delivery_that_awaits_storage_commitment_keeps_the_study(store: Store) -> None:
    store.make(Made("1.1", OLD, delivery=JobState.LEASED))
    with store.db.write() as conn:
        conn.execute(update(jobs).where(jobs.c.kind == "deliver").values(state=JobState.AWAITING.value))
    assert not _purge(store).anything


def test_a_conflict_goes_by_a_rule_of_its_own(store: Store) -> None:
    store.make(Made("1.1", OLD, conflict_at=OLD))
    assert _purge(store, SETTINGS.model_copy(update={"conflicts_days": 60})).studies == 0
    assert _purge(store, SETTINGS.model_copy(update={"conflicts_days": 35})).images.count == 3
    assert store.paths() == set()


def test_a_prior_stays_while_the_study_that_it_was_fetched_for_is_not_read(store: Store) -> None:
    store.make(Made("1.1", OLD))
    store.make(Made("1.2", NOW, job=JobState.QUEUED))
    with store.db.write() as conn:
        conn.execute(insert(priors).values(study_uid="1.2", prior_uid="1.1", study_date="", state="here", at=OLD))
    assert not _purge(store).studies
    with store.db.read() as conn:
        assert kept_studies(conn, NOW - 30 * DAY, NEVER) == {Kept.NEEDED: 1}


def test_a_study_that_unfinished_work_of_another_names_stays(store: Store) -> None:
    store.make(Made("1.2.77", OLD))
    store.job("read:9:1:cxr", "9.9", JobKind.READ, JobState.QUEUED, NOW, {"priors": "1.2.77"})
    assert not _purge(store).studies


def test_what_a_peer_asked_us_to_keep_stays_until_it_has_our_word(store: Store) -> None:
    store.make(Made("1.1", OLD))
    asked = {"transaction_uid": "2.25.1", "calling_ae": "PACS", "called_ae": "WETREAD", "state": "asked", "attempts": 0}
    with store.db.write() as conn:
        values = {**asked, "objects": '[["1.2.840", "1.1.0"]]', "asked_at": NOW, "next_at": NOW, "last_error": ""}
        conn.execute(insert(commitments_asked).values(**values))
    assert not _purge(store).studies


def test_a_study_that_no_route_wants_read_goes_by_age(store: Store) -> None:
    store.make(Made("1.1", OLD, job=None))
    assert _purge(store).studies == 1


@pytest.mark.parametrize(("days", "taken"), [(0, 0), (1, 1), (39, 1), (41, 0)])
def test_the_age_is_that_of_the_last_image_and_zero_keeps(store: Store, days: float, taken: int) -> None:
    store.make(Made("1.1", OLD))
    assert _purge(store, SETTINGS.model_copy(update={"images_days": days})).studies == taken


def test_nothing_goes_while_a_late_image_may_come_whatever_the_age_says(store: Store) -> None:
    store.make(Made("1.1", NOW - DAY))
    assert not _purge(store, SETTINGS.model_copy(update={"images_days": 0.01})).anything
    assert _purge(store, SETTINGS.model_copy(update={"images_days": 0.01, "late_hours": 12})).studies == 1


def test_a_late_image_opens_the_next_revision_of_the_same_study(store: Store) -> None:
    store.make(Made("1.1", OLD, document_at=OLD))
    _purge(store)
    store.receive("1.1", "1.1.7", NOW)
    with store.db.write() as conn:
        assert open_revision(conn, "1.1") == 2
        assert [row.sop_uid for row in instances_of(conn, "1.1")] == ["1.1.7"]
        assert purged_note(conn, "1.1") == (2, NOW)
        assert [row.uid for row in earlier_documents(conn, "1.1", "cxr", 2)] == ["1.1.9"]
    assert store.paths() == store.rows()


def test_the_same_image_sent_again_before_its_file_was_deleted_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.make(Made("1.1", OLD))
    purger = Purger(store.db, store.files)
    monkeypatch.setattr(purger, "_delete_files", lambda _study: 0)  # killed between the rows and the files
    purger.by_age(cutoffs(SETTINGS, NOW), NOW)
    monkeypatch.undo()
    path = store.receive("1.1", "1.1.0", NOW)
    purger.finish()
    assert store.paths() == store.rows() == {path}


def test_documents_go_later_than_images_and_their_rows_stay(store: Store) -> None:
    store.make(Made("1.1", NOW - 400 * DAY, document_at=NOW - 400 * DAY, delivery=JobState.DONE))
    done = _purge(store)
    assert (done.studies, done.documents.count) == (1, 1)
    assert store.paths() == set()
    with store.db.read() as conn:
        row = load_document(conn, "1.1.9")
        assert results_of(conn, "1.1") == ()
    assert row is not None
    assert row.purged_at == NOW


def test_a_document_that_is_made_again_is_not_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store.make(Made("1.1", NOW - 400 * DAY, document_at=NOW - 400 * DAY))
    purger = Purger(store.db, store.files)
    monkeypatch.setattr(purger, "_delete_files", lambda _study: 0)
    purger.by_age(cutoffs(replace_days(jobs_days=0), NOW), NOW)
    monkeypatch.undo()
    (job,) = list_jobs(store.db)
    assert rerun(store.db, job.id, NOW)
    file = store.files.write_document("1.1.9", b"made again")
    purger.finish()
    assert file.path in store.paths(), "a worker may have written it already"
    store.document(replace(made, document_at=NOW))
    purger.finish()
    with store.db.read() as conn:
        row = load_document(conn, "1.1.9")
    assert row is not None
    assert row.purged_at is None
    assert file.path in store.paths()


def replace_days(**days: float) -> RetentionSettings:
    return SETTINGS.model_copy(update=days)


def test_a_job_that_is_gone_still_keeps_its_work_from_being_queued_again(store: Store) -> None:
    store.make(Made("1.1", NOW - 100 * DAY, delivery=JobState.DONE))
    store.make(Made("1.2", NOW))  # the newest job always stays
    done = _purge(store)
    assert done.jobs == 2
    with store.db.write() as conn:
        for key in ("read:1.1:1:cxr", "deliver:1.1:pacs"):
            assert not enqueue(conn, NewJob(JobKind.DELIVER, "pacs", key, "1.1", {}), NOW)
        assert enqueue(conn, NewJob(JobKind.READ, "read", "read:1.1:2:cxr", "1.1", {}), NOW)
    assert {job.study_uid for job in list_jobs(store.db)} == {"1.1", "1.2"}


def test_job_numbers_are_never_given_again(store: Store) -> None:
    store.make(Made("1.1", NOW - 100 * DAY))
    newest = max(job.id for job in list_jobs(store.db))
    _purge(store)
    store.make(Made("1.2", NOW))
    assert max(job.id for job in list_jobs(store.db)) > newest


def test_old_events_go_and_new_ones_stay(store: Store) -> None:
    with store.db.write() as conn:
        for at in (NOW - 500 * DAY, NOW - 400 * DAY, NOW - DAY):
            record_event(conn, NewEvent(EventKind.FAILURE, "text"), at)
    assert _purge(store).events == 2
    with store.db.read() as conn:
        assert [event.at for event in list_events(conn)] == [NOW - DAY]


def _retention(store: Store, used: Callable[[], float], monkeypatch: pytest.MonkeyPatch) -> Retention:
    settings = RetentionSettings(images_days=0)
    made = Retention(store.db, store.files, settings, Purger(store.db, store.files), clock=lambda: NOW, elapsed=lambda: 0.0)
    monkeypatch.setattr(Retention, "fill", lambda _self: Fill(used(), 90, 80, "%"))
    return made


def test_over_the_high_watermark_the_oldest_go_until_it_is_under_the_low_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        store.make(Made(f"1.{number}", NOW - (50 - number) * DAY, images=1))
    retention = _retention(store, lambda: 70.0 + len(store.studies_with_images()) * 1.1, monkeypatch)
    done = retention.purge(threading.Event())
    assert done.studies == 15, "five at a time, until 75.5 %"
    assert store.studies_with_images() == {f"1.{number}" for number in range(15, 20)}
    with store.db.read() as conn:
        (event,) = list_events(conn, kind=EventKind.PURGED)
    assert event.severity is Severity.WARNING
    assert retention.purge(threading.Event()).studies == 0


def test_over_the_high_watermark_with_nothing_to_remove_an_operator_is_told_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.make(Made("1.1", OLD, job=JobState.DEAD))
    store.make(Made("1.2", NOW - DAY))
    retention = _retention(store, lambda: 95.0, monkeypatch)
    for _ in range(3):
        assert not retention.purge(threading.Event()).anything
    with store.db.read() as conn:
        (event,) = list_events(conn, kind=EventKind.PURGED)
    assert event.severity is Severity.ALERT
    assert "1 studies: a reading or delivery was given up" in event.text


def test_a_watermark_in_gb_is_of_what_the_node_holds(store: Store) -> None:
    store.make(Made("1.1", OLD))
    settings = RetentionSettings(high="0.00000001 GB", low="0.000000001 GB", images_days=0)
    done = Retention(store.db, store.files, settings, Purger(store.db, store.files), clock=lambda: NOW).purge(threading.Event())
    assert done.studies == 1


def test_a_clock_that_leaps_forward_removes_nothing_before_an_operator_was_told(store: Store) -> None:
    store.make(Made("1.1", NOW))
    times = iter([NOW, NOW + 900 * DAY, NOW + 900 * DAY, NOW + 900 * DAY])
    retention = Retention(
        store.db, store.files, SETTINGS, Purger(store.db, store.files), clock=lambda: next(times), elapsed=lambda: 5.0
    )
    assert not retention.purge(threading.Event()).anything
    with store.db.read() as conn:
        assert "clock" in list_events(conn)[0].text


def test_a_clock_that_leaps_forward_is_not_believed_by_a_full_disk_or_the_sweep(store: Store) -> None:
    store.make(Made("1.1", NOW))
    aside = store.files.root / "orphans" / "one.dcm"
    aside.parent.mkdir()
    aside.touch()
    settings = RetentionSettings(high="0.00000001 GB", low="0.000000001 GB", images_days=0)
    clock = [NOW]
    retention = Retention(
        store.db, store.files, settings, Purger(store.db, store.files), clock=lambda: clock[0], elapsed=lambda: 5.0
    )
    clock[0] = time.time() + 900 * DAY
    stop = threading.Event()
    for _ in range(2):
        assert not retention.relieve(stop).anything
        retention.sweep(stop)
    assert not retention.purge(stop).anything
    assert not retention.relieve(stop).anything  # told, and nothing before the next look
    assert aside.exists()
    assert retention.purge(stop).studies == 1


def test_a_stop_leaves_the_rest_for_later(store: Store) -> None:
    for number in range(3):
        store.make(Made(f"1.{number}", OLD))
    stop = threading.Event()
    stop.set()
    assert not Purger(store.db, store.files).by_age(cutoffs(SETTINGS, NOW), NOW, stop).anything
    assert len(store.studies_with_images()) == 3
