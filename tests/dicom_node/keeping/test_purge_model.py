"""Any store, against a model of what may go that knows no SQL."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.keeping.purge import Purger
from dicom_node.keeping.rules import cutoffs
from dicom_node.retention_settings import RetentionSettings
from dicom_node.storage.jobs import JobState
from dicom_node.storage.results import documents_of
from tests.dicom_node.keeping.store import DAY, Made, all_of, open_store

NOW = 2000 * DAY
AGES = st.sampled_from([0.5, 1.9, 2.1, 29.0, 31.0, 80.0, 364.0, 366.0])
STATES = st.sampled_from([None, JobState.QUEUED, JobState.LEASED, JobState.DONE, JobState.DEAD])
RULES = st.builds(
    RetentionSettings,
    images_days=st.sampled_from([0, 0.5, 1, 30, 90]),
    documents_days=st.sampled_from([0, 30, 365]),
    jobs_days=st.sampled_from([0, 90]),
    conflicts_days=st.sampled_from([0, 30]),
    late_hours=st.sampled_from([0, 48]),
    high=st.none(),
    low=st.none(),
)


@st.composite
def _studies(draw: st.DrawFn) -> list[Made]:
    made = []
    for number in range(draw(st.integers(1, 5))):
        age = draw(AGES)
        one = Made(
            f"1.{number}",
            NOW - age * DAY,
            images=draw(st.integers(1, 2)),
            dirty=draw(st.booleans()) and draw(st.booleans()),
            job=draw(STATES),
            delivery=draw(STATES),
            held=draw(st.booleans()) and draw(st.booleans()),
            conflict_at=draw(st.none() | AGES.map(lambda days: NOW - days * DAY)) if draw(st.booleans()) else None,
            document_at=draw(st.none() | st.just(NOW - age * DAY)),
        )
        made.append(one)
    return made


def _days(value: float, late_hours: float) -> float:
    """Older than this goes; infinite keeps."""
    return max(value, late_hours / 24) if value else float("inf")


def _age(at: float) -> float:
    return (NOW - at) / DAY


def _finished(one: Made) -> bool:
    return not one.dirty and all(state in (None, JobState.DONE) for state in (one.job, one.delivery))


def _images_go(one: Made, rules: RetentionSettings) -> bool:
    aside = one.conflict_at is not None and not _age(one.conflict_at) > _days(rules.conflicts_days, rules.late_hours)
    held = one.held and one.document_at is not None
    return _finished(one) and not held and not aside and _age(one.received_at) > _days(rules.images_days, rules.late_hours)


def _document_goes(one: Made, rules: RetentionSettings) -> bool:
    if one.document_at is None or one.held or not _finished(one):
        return False
    return _age(one.document_at) > _days(rules.documents_days, rules.late_hours)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=_studies(), rules=RULES)
def test_exactly_what_the_model_says_goes(empty_database: Path, made: list[Made], rules: RetentionSettings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(empty_database, Path(folder) / "node.sqlite")
        store = open_store(Path(folder))
        try:
            all_of(store, made)
            Purger(store.db, store.files).by_age(cutoffs(rules, NOW), NOW)
            assert store.studies_with_images() == {one.uid for one in made if not _images_go(one, rules)}
            with store.db.read() as conn:
                gone = {one.uid for one in made for row in documents_of(conn, one.uid) if row.purged_at is not None}
            has = {one.uid for one in made if one.document_at is not None and not one.dirty}
            assert gone == {one.uid for one in made if one.uid in has and _document_goes(one, rules)}
            assert store.paths() == store.rows(), "a row without its file, or a file without its row"
        finally:
            store.db.close()
