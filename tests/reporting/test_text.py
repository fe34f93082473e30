import pytest

from reporting.context import DocumentKind
from reporting.errors import DocumentError
from reporting.text import sr_prose, sr_text
from tests.reporting.samples import OPTIONS, by_kind, context, reading


def test_the_tree_is_indented_and_whole():
    lines = sr_text(by_kind(reading(), context(), OPTIONS)[DocumentKind.FINDINGS_SR].content).splitlines()
    assert lines[0] == "AI findings (draft) [PARTIAL, UNVERIFIED]"
    assert lines[1] == "Imaging Measurement Report"
    assert "      Certainty of Finding: 93.14 %" in lines
    assert "      Source: 1.2.3.1.1" in lines


def test_no_patient_is_named():
    for document in by_kind(reading(), context(), OPTIONS).values():
        if document.sop_class_uid:
            text = sr_text(document.content)
            assert "Muster" not in text
            assert "P-1" not in text


@pytest.mark.parametrize("foreign", [b"", b"no dicom", b"\0" * 128 + b"DICM"], ids=["empty", "text", "preamble only"])
def test_what_is_no_sr_is_refused(foreign: bytes):
    with pytest.raises(DocumentError):
        sr_text(foreign)


def test_prose_is_the_findings_alone():
    prose = sr_prose(by_kind(reading(), context(), OPTIONS)[DocumentKind.DRAFT_SR].content)
    assert prose == "Large left pneumothorax. No effusion < 3 mm & nothing else."


def test_prose_of_a_report_that_codes_no_finding_is_all_its_text():
    prose = sr_prose(by_kind(reading(), context(), OPTIONS)[DocumentKind.FINDINGS_SR].content)
    assert "Not assessable" in prose or "No person has verified it" in prose


@pytest.mark.parametrize("foreign", [b"", b"no dicom"], ids=["empty", "text"])
def test_prose_of_what_is_no_sr_is_refused(foreign: bytes):
    with pytest.raises(DocumentError):
        sr_prose(foreign)
