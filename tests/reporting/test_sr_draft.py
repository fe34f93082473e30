from dataclasses import replace
from io import BytesIO

import pytest
from highdicom.sr import EnhancedSR
from pydicom import Dataset, dcmread

from inference.reading import DraftReport, Sentence
from reporting.context import DocumentKind
from reporting.text import sr_text
from reporting.wording import DISCLAIMER, PHANTOM_MARK
from tests.reporting.samples import OPTIONS, by_kind, context, disagreeing, frame_of, header, reading, unassessed


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


OTHERWISE = "The findings say otherwise: Pneumothorax: present, probability 93.1 % (threshold 50.0 %), STAT."


def test_a_mark_stands_below_its_sentence_whose_words_stay():
    sentence = section(dcmread(BytesIO(content(disagreeing()))), "Findings").ContentSequence
    marked = next(item for item in sentence if item.get("TextValue") == "No pneumothorax.")
    assert [(item.RelationshipType, item.ValueType) for item in marked.ContentSequence] == [
        ("HAS PROPERTIES", "NUM"),
        ("HAS PROPERTIES", "TEXT"),
    ]
    assert marked.ContentSequence[1].TextValue == OTHERWISE
    unmarked = next(item for item in sentence if item.get("TextValue") == "Clear lungs.")
    assert [item.ValueType for item in unmarked.ContentSequence] == ["NUM"]


def test_what_the_draft_omits_and_how_it_was_checked_is_said():
    text = sr_text(content(disagreeing()))
    assert "Comment: Not mentioned in the draft: Mass (present)." in text
    assert "Comment: The draft contradicts the findings: Pneumothorax (present)." in text
    assert "Comment: The draft was compared with the findings by rules over words." in text
    assert "Comment: one of the images gave no text: no draft: the image is uniform." in text


def test_agreement_says_nothing():
    text = sr_text(content())
    assert "otherwise" not in text
    assert "Not mentioned" not in text


def test_the_models_impression_comes_after_the_triage_outcome():
    items = section(dcmread(BytesIO(content(disagreeing()))), "Impressions").ContentSequence
    said = [item.TextValue for item in items if item.ConceptNameCodeSequence[0].CodeMeaning == "Impression"]
    assert said == [
        "Marked for review: Pneumothorax 93.1 % (STAT), Mass 93.1 % (STAT). Not assessable: Pulmonary nodule.",
        "No acute abnormality.",
    ]
    assert OTHERWISE in sr_text(content(disagreeing())).split("No acute abnormality.")[1]


def test_each_image_that_a_sentence_was_written_from_is_named_once():
    first, second = header(), header(SOPInstanceUID="1.2.3.1.2")
    read = reading()
    sentences = tuple(replace(s, source=frame_of(ds)) for s, ds in zip(read.draft.sentences, (first, second), strict=True))
    read = replace(read, draft=replace(read.draft, sentences=sentences), sources=(frame_of(first), frame_of(second)))
    text = sr_text(by_kind(read, context(first, second), OPTIONS)[DocumentKind.DRAFT_SR].content)
    assert text.count("Source: 1.2.3.1.1\n") == text.count("Source: 1.2.3.1.2\n") == 1
