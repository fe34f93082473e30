from dataclasses import replace
from io import BytesIO

import pytest
from highdicom.sr import EnhancedSR
from pydicom import Dataset, dcmread

from inference.reading import DraftReport, Sentence
from reporting.context import DocumentKind
from reporting.text import sr_text
from reporting.wording import DISCLAIMER, PHANTOM_MARK
from tests.reporting.samples import OPTIONS, by_kind, context, reading, unassessed


def content(read=None) -> bytes:
    return by_kind(read or reading(), context(), OPTIONS)[DocumentKind.DRAFT_SR].content


def section(ds: Dataset, title: str) -> Dataset:
    return next(item for item in ds.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == title)


def test_shape_is_tid_2000_with_findings_and_impressions():
    ds = EnhancedSR.from_dataset(dcmread(BytesIO(content())))
    assert ds.ContentTemplateSequence[0].TemplateIdentifier == "2000"
    assert (ds.CompletionFlag, ds.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    assert ds.ConceptNameCodeSequence[0].CodeValue == "18748-4"
    assert [item.ConceptNameCodeSequence[0].CodeMeaning for item in ds.ContentSequence if item.ValueType == "CONTAINER"] == [
        "Findings",
        "Impressions",
    ]


def test_each_sentence_has_its_confidence():
    items = [one for one in section(dcmread(BytesIO(content())), "Findings").ContentSequence if "ContentSequence" in one]
    said = [(one.TextValue, one.ContentSequence[0].MeasuredValueSequence[0].NumericValue) for one in items]
    assert said == [("Large left pneumothorax.", 81), ("No effusion < 3 mm & nothing else.", 50)]


def test_the_draft_names_its_model_and_image():
    text = sr_text(content())
    assert "Drafted by BiomedGPT 2.0" in text
    assert "Source: 1.2.3.1.1" in text


EMPTY = {
    "no model": (
        replace(reading(), draft=DraftReport((), "No drafting model is configured")),
        "No drafting model is configured.",
    ),
    "not assessed": (unassessed(), "The catalogue does not cover CT."),
    "blank sentences": (replace(reading(), draft=DraftReport((Sentence("  ", 0.1),))), "the drafting model gave no text."),
}


@pytest.mark.parametrize(("read", "why"), EMPTY.values(), ids=EMPTY)
def test_an_empty_draft_is_never_silence(read, why: str):
    text = sr_text(content(read))
    assert f"Finding: No draft text was made: {why}" in text
    assert DISCLAIMER in text


def test_phantom_is_said():
    text = sr_text(content(reading(phantom=True)))
    assert PHANTOM_MARK in text
    assert "PHANTOM" in text.splitlines()[0]


def test_impression_is_the_triage_outcome():
    assert "Impression: Marked for review: Pneumothorax 93.1 % (STAT)." in sr_text(content())
