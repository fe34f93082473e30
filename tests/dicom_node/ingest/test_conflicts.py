"""The same UID with other content, another study or another patient, under each rule; and what a study's images disagree in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, Severity
from dicom_node.storage.identities import differing, identity_of
from dicom_node.storage.instances import ConflictRule, instances_of
from dicom_node.storage.studies import get_study, open_revision

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of test_kill's senders, late

Start = Callable[..., Any]
Make = Callable[..., Dataset]

OTHERS = {
    "content": {"pixels": b"\4\3\2\1"},
    "series": {"pixels": b"\4\3\2\1", "SeriesInstanceUID": "1.2.99"},
    "study": {"pixels": b"\4\3\2\1", "study_uid": "1.7"},
    "patient": {"sop_uid": "1.2.3.5", "PatientID": "phantom-2"},
}


@pytest.mark.parametrize("rule", ConflictRule)
@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        pytest.param("content", 0xC010, "The same SOP Instance UID came with other content", id="other content"),
        pytest.param("series", 0xC010, "The same SOP Instance UID came with other content", id="other series"),
        pytest.param("study", 0xC011, "The same SOP Instance UID came in another study", id="other study"),
        pytest.param("patient", 0xC012, "The study holds images of another patient", id="other patient in the study"),
    ],
)
def test_each_rule(start: Start, make: Make, rule: ConflictRule, change: str, status: int, told: str) -> None:
    node = start(conflicts=rule)
    other = make(**OTHERS[change])
    assert node.send(make()).Status == 0
    with node.db.write() as conn:
        open_revision(conn, "1.2")
    answers = [node.send(other) for _ in range(2)]
    refused = rule is ConflictRule.REFUSE
    read = rule is ConflictRule.NEWEST and change in ("content", "series")
    assert [answer.Status for answer in answers] == ([status] * 2 if refused else [0, 0])
    rows = node.rows(str(other.SOPInstanceUID))
    expected = [] if change == "patient" else [read]  # whether the first is set aside
    assert [row.set_aside for row in rows] == [*expected, *([] if refused else [not read])]
    assert all(node.files.path(row.path).is_file() for row in rows)
    (alert, *more) = [event for event in node.events() if event.kind is EventKind.CONFLICT]
    assert (alert.severity, told in alert.text, len(more)) == (Severity.ALERT, True, 1 if refused else 0)
    with node.db.read() as conn:
        study = get_study(conn, "1.2")
        assert study is not None
        assert (study.instance_count, study.dirty) == (1, read)
        assert len(instances_of(conn, "1.2")) == 1
    if refused:
        assert answers[0].ErrorComment == told
        assert [event.kind for event in node.events()].count(EventKind.REFUSED_INSTANCE) == 2
    assert node.partials() == []


def test_a_third_content_takes_the_place_of_the_second(start: Start, make: Make) -> None:
    node = start(conflicts=ConflictRule.NEWEST)
    for pixels in (b"\1\1\1\1", b"\2\2\2\2", b"\3\3\3\3", b"\2\2\2\2"):
        assert node.send(make(pixels=pixels)).Status == 0
    assert [row.set_aside for row in node.rows("1.2.3.4")] == [True, True, False]
    with node.db.read() as conn:
        study = get_study(conn, "1.2")
    assert study is not None
    assert study.instance_count == 1


def test_images_that_disagree_in_the_patient_are_told_by_tag_and_not_by_value(start: Start, make: Make) -> None:
    node = start()
    first = {"PatientName": "Phantom^Anna", "PatientSex": "F", "PatientBirthDate": "19700101"}
    assert node.send(make("1.2.3.1", **first)).Status == 0
    same = {"PatientName": "PHANTOM^ANNA^^", "PatientSex": "", "PatientBirthDate": "19700101"}
    assert node.send(make("1.2.3.2", **same)).Status == 0
    assert node.events() == ()
    other = {"PatientName": "Phantom^Berta", "PatientSex": "F", "PatientBirthDate": "19710101"}
    for number in range(3, 6):
        assert node.send(make(f"1.2.3.{number}", **other)).Status == 0
    (event,) = node.events()
    assert (event.kind, event.severity, event.study_uid) == (EventKind.CONFLICT, Severity.WARNING, "1.2")
    assert "Patient's Name (0010,0010), Patient's Birth Date (0010,0030)" in event.text
    assert "Berta" not in event.text
    with node.db.read() as conn:
        assert len(instances_of(conn, "1.2")) == 5
    with node.db.read() as conn:
        dump = str(conn.exec_driver_sql("SELECT * FROM study_identities").all())
    assert "anna" not in dump.lower()


def test_identities_of_two_studies_cannot_be_linked(tmp_path: Path) -> None:
    values = (b"PHANTOM^ANNA", b"19700101", b"F", b"A1")
    assert identity_of("1.2", values) != identity_of("1.3", values)
    assert identity_of("1.2", (b"", b" ", b"\0", b"^^")) == ",,,"
    db = Database.open(tmp_path / "node.sqlite")
    with db.write() as conn:
        assert differing(conn, "1.2", identity_of("1.2", values)) == ()
        assert differing(conn, "1.2", identity_of("1.2", (b"phantom^anna ", b"", b"M", b"A2"))) == (
            "Patient's Sex (0010,0040)",
            "Accession Number (0008,0050)",
        )
    db.close()


def test_any_takes_private_classes_and_no_services(start: Start, make: Make) -> None:
    node = start(extra_sop_classes=("any",))
    private, find, unknown = "1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.2.2.1", "2.25.4711"
    association = node.associate(*((uid, ExplicitVRLittleEndian) for uid in (private, find, unknown)))
    assert [context.abstract_syntax for context in association.rejected_contexts] == [find]
    ds = make(SOPClassUID=private)
    ds.file_meta.MediaStorageSOPClassUID = private
    assert association.send_c_store(ds).Status == 0
    association.release()
