"""A study that grows after it was read is read again: one more set of results, and the earlier set stays."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset

from .conftest import House
from .harness import dcmtk, films, sr


def test_a_late_image_makes_a_second_revision_and_keeps_the_first(house: House, tmp_path: Path) -> None:
    uid, first = films.film(tmp_path, 21, [], number=1)
    _, late = films.film(tmp_path, 22, ["pneumothorax"], study_uid=uid, number=2)
    _send(house, first)
    house.node.wait_settled([uid])
    before = _reports(house, uid)
    assert len(before) == 2

    _send(house, late)
    house.node.wait_settled([uid], revision=2)
    after = _reports(house, uid)
    assert len(after) == 4
    assert {k: v.to_json() for k, v in after.items() if k in before} == {k: v.to_json() for k, v in before.items()}
    new = [report for key, report in after.items() if key not in before]
    assert all(len(sr.evidence(report)) == 2 for report in new)
    (findings,) = [report for report in new if report.SOPClassUID == sr.FINDINGS]
    assert sr.presences(findings)["Pneumothorax"] == "Present"

    assert [result["revision"] for result in house.node.results(uid)] == [1, 2]
    assert house.in_record(uid) in (2, None)
    if house.fhir is not None:
        _second_report_replaces_the_first(house, uid)
    assert len(house.pacs.studies(uid)) == 1


def test_the_same_image_sent_again_changes_nothing(house: House, tmp_path: Path) -> None:
    uid, path = films.film(tmp_path, 23, [])
    _send(house, path)
    house.node.wait_settled([uid])
    before = house.pacs.count(), house.in_record(uid), house.node.jobs(uid)
    _send(house, path)
    _send(house, path)
    house.node.wait_settled([uid])
    assert (house.pacs.count(), house.in_record(uid), house.node.jobs(uid)) == before


def _second_report_replaces_the_first(house: House, uid: str) -> None:
    by_name = {report["identifier"][0]["value"]: report for report in house.record.reports(uid)}
    linked = {name: report["extension"][0]["valueReference"] for name, report in by_name.items() if "extension" in report}
    ((second, replaced),) = linked.items()
    assert {second, replaced["identifier"]["value"]} == set(by_name)
    assert {report["status"] for report in by_name.values()} == {"partial"}


def _send(house: House, path: Path) -> None:
    output = dcmtk.dcmsend(house.node.port, [path])
    assert dcmtk.accepted(output) == 1, output.text


def _reports(house: House, uid: str) -> dict[str, Dataset]:
    found = [s.dataset for s in house.pacs.instances(uid, "SR")]
    return {str(report.SOPInstanceUID): report for report in found if sr.is_ours(report)}
