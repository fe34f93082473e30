"""What the demo sends, and how it judges what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.demo.studies import Expected, fault, write_studies
from inference.reading import (
    Catalogue,
    Code,
    Decision,
    DraftReport,
    Finding,
    Reading,
    Urgency,
    UseMode,
)


def _reading(*marked: tuple[str, Urgency], reason: str = "") -> Reading:
    findings = [_finding("nodule", Urgency.ROUTINE, Decision.NOT_ASSESSABLE if reason else Decision.NEGATIVE)]
    findings += [_finding(key, urgency, Decision.POSITIVE) for key, urgency in marked]
    return Reading(tuple(findings), DraftReport((), reason), (), Catalogue("c", "1", "0"), UseMode.ASSIST, (), (), reason)


def _finding(key: str, urgency: Urgency, decision: Decision) -> Finding:
    chance = {Decision.POSITIVE: 0.9, Decision.NEGATIVE: 0.1, Decision.NOT_ASSESSABLE: None}[decision]
    return Finding(key, Code("1", "SCT", key), None, urgency, 0.5, decision, chance)


PTX = ("pneumothorax", Urgency.STAT)
ROUTINE = ("device", Urgency.ROUTINE)


@pytest.mark.parametrize(
    ("expected", "reading", "said"),
    [
        pytest.param(Expected.PNEUMOTHORAX, _reading(PTX), "", id="pneumothorax found"),
        pytest.param(Expected.PNEUMOTHORAX, _reading(PTX, ROUTINE), "", id="and more"),
        pytest.param(Expected.PNEUMOTHORAX, _reading(ROUTINE), "not marked", id="pneumothorax missed"),
        pytest.param(Expected.PNEUMOTHORAX, _reading(reason="no model"), "could not be read: no model", id="unread"),
        pytest.param(Expected.NOTHING_URGENT, _reading(), "", id="normal is normal"),
        pytest.param(Expected.NOTHING_URGENT, _reading(ROUTINE), "", id="a routine finding is no alarm"),
        pytest.param(Expected.NOTHING_URGENT, _reading(PTX), "marked for pneumothorax", id="false alarm"),
        pytest.param(Expected.NOTHING_URGENT, _reading(reason="no model"), "could not be read", id="normal unread"),
        pytest.param(Expected.NOT_ASSESSABLE, _reading(reason="CT is not covered"), "", id="refused as it should"),
        pytest.param(Expected.NOT_ASSESSABLE, _reading(), "judged for nodule", id="judged although not covered"),
    ],
)
def test_fault(expected: Expected, reading: Reading, said: str) -> None:
    why = fault(expected, reading)
    assert why == "" if not said else said in why


def test_what_is_sent(tmp_path: Path) -> None:
    studies = write_studies(tmp_path / "films")
    headers = [[dcmread(path, stop_before_pixels=True) for path in study.files] for study in studies]
    assert [(h[0].Modality, len(h), h[0].get("RequestedProcedurePriority")) for h in headers] == [
        ("DX", 1, "STAT"),
        ("DX", 1, None),
        ("CT", 5, None),
    ]
    assert [{str(ds.StudyInstanceUID) for ds in found} for found in headers] == [{study.study_uid} for study in studies]
    assert len({study.study_uid for study in studies}) == 3
