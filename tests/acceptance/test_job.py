"""The whole job: a real sender's studies end as reports in a real PACS, in the right study, and in a real FHIR server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.remote.dimse import DicomPeer, store
from dicom_node.remote.fhir import FhirPeer, post_bundle
from tests.conftest import shared

from .conftest import House
from .harness import dcmtk, films, sr

PYDICOM = {  # what pydicom ships: name to whether the chest catalogue may judge it
    "CT_small.dcm": "a CT of 128 by 128",
    "MR_small_jp2klossless.dcm": "an MR, JPEG 2000",
    "JPEG2000.dcm": "a nuclear scan, JPEG 2000",
    "examples_ybr_color.dcm": "an ultrasound clip",
    "test-SR.dcm": "a structured report, no image",
    "waveform_ecg.dcm": "an ECG, no image",
}
PHANTOMS = ("pneumothorax", "normal", "chest CT")
CXR = ("highdicom__dx_image", "pydicom-data__RG1_J2KI", "torchxrayvision__Fake_MONOHR1")  # each of another study
NOT_ASSESSABLE = ("chest CT", *PYDICOM)


@dataclass(frozen=True, slots=True)
class Sent:
    """A study that was sent."""

    study_uid: str
    patient_id: str
    paths: tuple[Path, ...]

    @property
    def sop_uids(self) -> set[str]:
        return {str(films.header(path).SOPInstanceUID) for path in self.paths}


@pytest.fixture(scope="module")
def sent(house: House, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sent]:
    """Every study, sent to the PACS and to the node by dcmsend, as a modality and an auto-routing PACS do; then read."""
    folder = tmp_path_factory.mktemp("films")
    studies = {
        "pneumothorax": _sent([films.film(folder, 11, ["pneumothorax"])[1]]),
        "normal": _sent([films.film(folder, 12, [])[1]]),
        "chest CT": _sent(films.scan(folder, 13)[1]),
        **{name: _sent([films.pydicom_file(name)]) for name in PYDICOM},
        **{path.stem: _sent([path]) for path in _public_films()},
    }
    paths = [path for study in studies.values() for path in study.paths]
    for port, called in ((house.pacs.dicom_port, house.pacs.ae_title), (house.node.port, "WETREAD")):
        output = dcmtk.dcmsend(port, paths, called=called)
        assert dcmtk.accepted(output) == len(paths), output.text
    house.node.wait_settled([study.study_uid for study in studies.values()])
    return studies


def _sent(paths: list[Path]) -> Sent:
    header = films.header(paths[0])
    return Sent(str(header.StudyInstanceUID), str(header.PatientID or ""), tuple(paths))


def _public_films() -> list[Path]:
    try:
        folder = shared("WETREAD_DICOM", "dicom") / "cxr"
    except pytest.skip.Exception:
        return []
    return [path for path in sorted(folder.glob("*.dcm")) if path.stem in CXR]


@pytest.fixture
def study(request: pytest.FixtureRequest, sent: dict[str, Sent]) -> Sent:
    name = request.param
    if name not in sent:
        shared("WETREAD_DICOM", "dicom")  # skips with the reason
        pytest.fail(f"the corpus has no {name}.dcm")
    return sent[name]


every_study = pytest.mark.parametrize("study", [*PHANTOMS, *PYDICOM, *CXR], indirect=True)


@every_study
def test_both_reports_stand_in_the_pacs_in_the_study_of_their_images(house: House, study: Sent) -> None:
    assert len(house.pacs.studies(study.study_uid)) == 1, "another patient or study was made of the reports"
    reports = [s.dataset for s in house.pacs.instances(study.study_uid, "SR") if sr.is_ours(s.dataset)]
    assert sorted(str(report.SOPClassUID) for report in reports) == sorted([sr.FINDINGS, sr.DRAFT])
    assert {str(report.PatientID or "") for report in reports} == {study.patient_id}
    assert {(str(report.CompletionFlag), str(report.VerificationFlag)) for report in reports} == {("PARTIAL", "UNVERIFIED")}


@every_study
def test_reports_are_readable_and_clean_to_independent_checkers(house: House, study: Sent, tmp_path: Path) -> None:
    files = []
    for number, stored in enumerate(house.pacs.instances(study.study_uid, "SR")):
        if sr.is_ours(stored.dataset):
            files.append(tmp_path / f"{number}.dcm")
            files[-1].write_bytes(stored.content)
    assert len(files) == 2
    for file in files:
        text = dcmtk.dsrdump(file)
        assert text.lines(r"<CONTAINER:"), text.text
        assert text.lines(r"[EWF]:", dcmtk.DSRDUMP_ALLOWED) == []
        assert dcmtk.dciodvfy(file).lines(r"Error", dcmtk.DCIODVFY_ALLOWED) == []
    # two objects of one study must not disagree on its patient or on the study
    assert dcmtk.dcentvfy(files).lines(r"Error", dcmtk.DCENTVFY_ALLOWED) == []


@every_study
def test_reports_refer_to_images_that_were_sent(house: House, study: Sent) -> None:
    for report in _reports(house, study):
        named = sr.images(report) | sr.evidence(report)
        assert named, "no source is named"
        assert named <= study.sop_uids
        assert sr.images(report) <= sr.evidence(report), "PS3.3 C.17.2.3: every reference is listed as evidence"


@every_study
def test_the_record_holds_one_draft_report_of_the_study(house: House, study: Sent) -> None:
    (report,) = house.record.reports(study.study_uid)
    assert report["status"] == "partial"


@every_study
def test_the_archive_holds_both_reports_and_the_bundle(house: House, study: Sent) -> None:
    uids = {document.uid for document in house.node.documents(study.study_uid)}
    files = [path for path in house.archive.iterdir() if any(uid in path.name for uid in uids)]
    assert sorted(path.suffix for path in files) == [".dcm", ".dcm", ".json"]


@pytest.mark.parametrize("study", NOT_ASSESSABLE, indirect=True)
def test_what_the_catalogue_does_not_cover_is_not_assessable_for_a_stated_reason(house: House, study: Sent) -> None:
    (result,) = house.node.results(study.study_uid)
    assert result["reason"].strip()
    assert {finding["decision"] for finding in result["findings"]} <= {"not assessable"}
    for report in _reports(house, study):
        assert sr.outcome(report) == "Not assessable"
        assert any(result["reason"].rstrip(".") in text for text in sr.texts(report))
        assert set(sr.presences(report).values()) <= {"Undetermined"}
    if house.fhir is not None:
        (record,) = house.record.reports(study.study_uid)
        assert result["reason"].rstrip(".") in record["conclusion"]


@pytest.mark.parametrize("study", ["pneumothorax"], indirect=True)
def test_a_pneumothorax_is_found_drafted_and_reported(house: House, study: Sent) -> None:
    findings, draft = _reports(house, study)
    assert sr.presences(findings)["Pneumothorax"] == "Present"
    assert any("pneumothorax" in text.lower() for text in sr.texts(draft))
    if house.fhir is not None:
        (record,) = house.record.reports(study.study_uid)
        assert "pneumothorax" in record["conclusion"].lower()


@pytest.mark.parametrize("study", ["normal"], indirect=True)
def test_a_normal_film_has_no_positive_finding(house: House, study: Sent) -> None:
    findings, draft = _reports(house, study)
    assert sr.outcome(findings) == sr.outcome(draft) == "Assessed"
    said = sr.presences(findings)
    assert said["Pneumothorax"] == "Absent"
    assert set(said.values()) <= {"Absent", "Undetermined"}


@pytest.mark.parametrize("study", ["pneumothorax", *CXR], indirect=True)
def test_every_output_of_a_phantom_model_says_so(house: House, study: Sent) -> None:
    for report in _reports(house, study):
        assert "PHANTOM not for patients" in report.SeriesDescription
        assert any("not for patients" in text for text in sr.texts(report))
    if house.fhir is not None:
        (record,) = house.record.reports(study.study_uid)
        assert "not for patients" in str(record)


def test_the_same_objects_sent_to_the_pacs_again_double_nothing(house: House, sent: dict[str, Sent]) -> None:
    before = house.pacs.count()
    peer = DicomPeer("127.0.0.1", house.pacs.dicom_port, house.pacs.ae_title, "WETREAD")
    for content in _documents(house, sent, "application/dicom"):
        assert store(peer, content) == 0
    assert house.pacs.count() == before


def test_the_same_bundles_posted_to_the_record_again_double_nothing(house: House, sent: dict[str, Sent]) -> None:
    before = house.record.counts()
    assert before["DiagnosticReport"] >= len(sent)
    for content in _documents(house, sent, "application/fhir+json"):
        post_bundle(FhirPeer(house.record.url), content)
    assert house.record.counts() == before


def _documents(house: House, sent: dict[str, Sent], media_type: str) -> list[bytes]:
    rows = [row for name in ("pneumothorax", "chest CT") for row in house.node.documents(sent[name].study_uid)]
    found = [(house.node.data / row.path).read_bytes() for row in rows if row.media_type == media_type]
    assert found
    return found


def _reports(house: House, study: Sent) -> list[Dataset]:
    """Our findings and draft reports, in this order, as the PACS gives them back."""
    found = [s.dataset for s in house.pacs.instances(study.study_uid, "SR") if sr.is_ours(s.dataset)]
    return sorted(found, key=lambda report: report.SOPClassUID != sr.FINDINGS)
