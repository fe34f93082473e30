"""What a reading is compared with: the node's word on the same patient's earlier studies, decided once for each revision."""

from __future__ import annotations

import time
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.errors import StorageError
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.reading_json import priors_from_json, to_json
from dicom_node.storage.compared import keep_priors, kept_priors
from dicom_node.storage.events import EventKind, list_events
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.jobs import rerun
from dicom_node.storage.priors import Prior, PriorState, note_priors
from dicom_node.storage.results import NewResult, documents_of, save_result
from dicom_node.worker.earlier import Identity, earlier_time, priors_for
from inference.reading import Frame, FrameSource, Reading, UseMode
from reporting.comparison import Change, Comparison, compare
from reporting.context import DocumentKind
from reporting.read_back import read_findings
from tests.dicom_node.worker.one_study import Node
from tests.support import GreyReader

BRIGHT, DARK = 255, 0
PRIOR = "1.2.3.4.5"


def said(grey: int) -> Reading:
    """Pneumothorax is present where it is bright, effusion where it is dark."""
    source = FrameSource("1.2.3.4.5.6.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.4.5.6")
    return GreyReader(UseMode.ASSIST).read([Frame(np.full((4, 4), grey, np.uint8), source, "DX")])


def film_of(node: Node) -> Dataset:
    with node.db.read() as conn:
        (row,) = conn.exec_driver_sql(f"SELECT path FROM instances WHERE study_uid = '{node.study}'").all()
    return dcmread(node.files.path(row[0]), stop_before_pixels=True)


def hold(node: Node, uid: str = PRIOR, **changes: str) -> None:
    """An earlier film of the same patient, received; ``changes`` in its header."""
    ours = film_of(node)
    film = phantom_dx(2, [], size=64, patient_id=str(ours.PatientID), study_uid=uid)
    film.PatientBirthDate, film.StudyDate, film.StudyTime = ours.get("PatientBirthDate", ""), "20200101", "0810"
    for keyword, value in changes.items():
        setattr(film, keyword, value)
    buffer = BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    stored = node.files.write_document(f"film {uid}", buffer.getvalue())
    syntax = str(film.file_meta.TransferSyntaxUID)
    uids = (str(film.SOPInstanceUID), str(film.SOPClassUID), str(film.SeriesInstanceUID), uid, syntax)
    with node.db.write() as conn:
        record_instance(conn, NewInstance(*uids, stored.path, stored.size, stored.sha256, "0"), time.time())


def read(node: Node, uid: str = PRIOR, grey: int = DARK, revision: int = 1, state: PriorState = PriorState.READ) -> None:
    """The node's own reading of it, after which the study waited no longer."""
    with node.db.write() as conn:
        save_result(conn, NewResult(uid, revision, "chest_xray", to_json(said(grey))), time.time())
        note_priors(conn, node.study, [Prior(uid, "20200101", state)], time.time())


def found(node: Node) -> list[str]:
    return [one.study_uid for one in priors_for(node.db, node.files, node.state())]


def comparisons(node: Node) -> tuple[Comparison, ...]:
    with node.db.read() as conn:
        row = next(one for one in documents_of(conn, node.study) if one.kind == DocumentKind.FINDINGS_SR)
    return read_findings(node.files.path(row.path).read_bytes()).comparisons


def test_the_documents_carry_the_comparison(node: Node) -> None:
    hold(node)
    read(node)
    assert node.worker(GreyReader(UseMode.ASSIST)).step()
    assert node.saved() == (1, 3, 3)
    (one,) = comparisons(node)
    assert (one.study_uid, one.study_date, one.study_time) == (PRIOR, "20200101", "0810")
    assert [(finding.key, finding.obstacle) for finding in one.findings] == [("pneumothorax", None), ("pleural_effusion", None)]
    assert [finding.probability for finding in one.findings] == [0.0, 1.0]


def test_a_study_that_asked_for_no_priors_keeps_nothing(node: Node) -> None:
    assert node.worker(GreyReader(UseMode.ASSIST)).step()
    assert comparisons(node) == ()
    with node.db.read() as conn:
        assert kept_priors(conn, node.study, 1, "chest_xray") is None


def test_what_was_compared_stays_though_the_prior_is_read_anew_and_the_work_is_done_again(node: Node) -> None:
    """As after a kill -9: whoever makes the documents of the revision again makes the same bytes."""
    hold(node)
    read(node)
    worker = node.worker(GreyReader(UseMode.ASSIST))
    assert worker.step()
    with node.db.read() as conn:
        first = {one.uid: one.sha256 for one in documents_of(conn, node.study)}
    read(node, grey=BRIGHT, revision=2)
    hold(node, "1.2.9")
    read(node, "1.2.9")
    assert rerun(node.db, node.job, time.time())
    assert worker.step()
    with node.db.read() as conn:
        assert {one.uid: one.sha256 for one in documents_of(conn, node.study)} == first
    assert node.saved() == (1, 3, 3)


def test_a_prior_that_comes_after_the_reading_began_is_not_compared_by_half_of_the_documents(node: Node) -> None:
    with node.db.write() as conn:
        note_priors(conn, node.study, [Prior(PRIOR, "20200101")], 1)
    assert found(node) == []
    hold(node)
    read(node)
    assert found(node) == []


def test_the_first_word_of_two_workers_counts(node: Node) -> None:
    with node.db.write() as conn:
        assert keep_priors(conn, "1.2", 1, "chest", "[]", 1) == "[]"
        assert keep_priors(conn, "1.2", 1, "chest", "[1]", 2) == "[]"
        assert keep_priors(conn, "1.2", 2, "chest", "[2]", 2) == "[2]"


LEFT_OUT = {
    "another patient": ({"PatientID": "SOMEBODY-ELSE"}, True),
    "no patient": ({"PatientID": ""}, True),
    "another issuer": ({"IssuerOfPatientID": "ELSEWHERE"}, True),
    "another date of birth": ({"PatientBirthDate": "19010101"}, True),
    "a later study": ({"StudyDate": "20991231"}, False),
}


@pytest.mark.parametrize(("changes", "told"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_the_images_say_counts_and_not_the_archive(
    node: Node, changes: dict[str, str], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = film_of(node)
    own = Identity(str(ours.PatientID), "HOSPITAL", "19500101", "20260101", "")
    kept = {"IssuerOfPatientID": "HOSPITAL", "PatientBirthDate": "19500101"}
    hold(node, **{**kept, **changes})
    read(node)
    from dicom_node.worker import earlier

    real = earlier._identity
    monkeypatch.setattr(earlier, "_identity", lambda files, row: own if row.study_uid == node.study else real(files, row))
    assert found(node) == []
    with node.db.read() as conn:
        events = list_events(conn, kind=EventKind.CONFLICT)
    assert [PRIOR in event.text for event in events] == ([True] if told else [])


def test_every_series_of_a_prior_must_be_of_the_patient(node: Node) -> None:
    hold(node)
    hold(node, PatientID="SOMEBODY-ELSE", SOPInstanceUID="1.2.7.1", SeriesInstanceUID="1.2.7")
    read(node)
    assert found(node) == []


NOT_COMPARED = {
    "not fetched in time": PriorState.FAILED,
    "not here yet": PriorState.WANTED,
}


@pytest.mark.parametrize("state", NOT_COMPARED.values(), ids=NOT_COMPARED)
def test_only_what_is_here_as_a_whole(node: Node, state: PriorState) -> None:
    hold(node)
    read(node, state=state)
    assert found(node) == []


def test_a_prior_that_was_not_read_is_left_out_and_one_whose_images_are_gone(node: Node) -> None:
    hold(node)
    with node.db.write() as conn:
        note_priors(conn, node.study, [Prior(PRIOR, "20200101", PriorState.HERE)], 1)
    read(node, "1.2.9")
    assert found(node) == []


def test_a_file_that_cannot_be_read_belongs_to_nobody(node: Node) -> None:
    hold(node)
    read(node)
    with node.db.read() as conn:
        (row,) = conn.exec_driver_sql(f"SELECT path FROM instances WHERE study_uid = '{PRIOR}'").all()
    node.files.path(row[0]).write_bytes(b"")
    assert found(node) == []


def test_each_revision_is_compared_for_itself(node: Node) -> None:
    hold(node)
    read(node)
    assert found(node) == [PRIOR]
    later = replace(node.state(), payload={**node.state().payload, "revision": 2})
    read(node, grey=BRIGHT, revision=2)
    (one,) = priors_for(node.db, node.files, later)
    assert one.revision == 2
    (shown,) = compare(said(BRIGHT), [one], "")
    assert [finding.change for finding in shown.findings] == [Change.KNOWN, Change.ABSENT]


def test_kept_text_of_another_version_is_an_error_of_the_storage() -> None:
    with pytest.raises(StorageError, match="stored priors"):
        priors_from_json('[{"study_uid": 3}]')


TIMES = {
    "before": ("0810", "081001", True),
    "the same": ("0810", "081000.000", False),
    "after": ("2359", "00", False),
    "none": ("", "0810", False),
    "the other tells none": ("0810", "", False),
    "no time": ("99", "0810", False),
    "a leap second": ("235959", "235960", False),
}


@pytest.mark.parametrize(("one", "other", "before"), TIMES.values(), ids=TIMES)
def test_times_of_a_day(one: str, other: str, before: bool) -> None:
    assert earlier_time(one, other) is before
