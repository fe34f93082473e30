"""The draft as an Enhanced SR in the shape of TID 2000 (Basic Diagnostic Imaging Report)."""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.uid import EnhancedSRStorage

from inference.reading import Code, DraftReport, Reading, Sentence
from reporting import codes, wording
from reporting.content import CONTAINS, HAS_PROPERTIES, code_item, container, image_items, percent_item, text_item
from reporting.context import DocumentKind
from reporting.options import DocumentOptions
from reporting.source import SourceStudy
from reporting.sr_context import language, notice_items, observer, procedures
from reporting.sr_findings import drafting_model
from reporting.sr_header import SrFrame, sr_dataset
from reporting.uids import ReadingKey

SERIES_NUMBER: Final = 9902


def draft_sr(source: SourceStudy, reading: Reading, options: DocumentOptions, key: ReadingKey) -> Dataset:
    """The draft document; where there is no draft it says so and why."""
    frame = SrFrame(
        kind=DocumentKind.DRAFT_SR,
        sop_class_uid=EnhancedSRStorage,
        series_number=SERIES_NUMBER,
        series_description=wording.series_description(wording.DRAFT_SERIES, reading),
    )
    return sr_dataset(source, reading, options, key, frame, _root(source, reading, options))


def _root(source: SourceStudy, reading: Reading, options: DocumentOptions) -> Dataset:
    children = [language(), *observer(source, options), *procedures(source)]
    children += [_findings(source, reading), _impressions(reading)]
    return container(codes.DIAGNOSTIC_IMAGING_REPORT, children, template="2000")


def _findings(source: SourceStudy, reading: Reading) -> Dataset:
    """The draft's sentences, each with its confidence and what contradicts it, and the images they were written from."""
    drafted = [_sentence(one, reading) for one in reading.draft.sentences if one.text.strip()]
    children = [*notice_items(reading), *(drafted or [text_item(CONTAINS, codes.FINDING, wording.no_draft(reading))])]
    model = drafting_model(reading)
    if drafted:
        lines = [f"Drafted by {wording.model_line(model)}"] if model else []
        lines = [*wording.agreement_lines(reading), *lines, *wording.checking_lines(reading)]
        children += [text_item(CONTAINS, codes.COMMENT, line) for line in lines]
        children += _images(source, reading.draft)
    return container(codes.FINDINGS, children, CONTAINS)


def _sentence(sentence: Sentence, reading: Reading, name: Code = codes.FINDING) -> Dataset:
    """A mark stands below its sentence, whose words stay as the model wrote them."""
    below = [percent_item(HAS_PROPERTIES, codes.SENTENCE_CONFIDENCE, sentence.confidence, codes.PERCENT)]
    if mark := wording.contradiction(sentence, reading):
        below.append(text_item(HAS_PROPERTIES, codes.COMMENT, wording.sentence(mark[0].upper() + mark[1:])))
    return text_item(CONTAINS, name, sentence.text, below)


def _images(source: SourceStudy, draft: DraftReport) -> list[Dataset]:
    """Each image that a sentence was written from, once."""
    used = dict.fromkeys((draft.source, *(sentence.source for sentence in draft.sentences)))
    references = dict.fromkeys(source.reference(one) for one in used if one)
    return [item for one in references for item in image_items(CONTAINS, codes.SOURCE_IMAGE, one)]


def _impressions(reading: Reading) -> Dataset:
    """No impression of a person: the triage outcome, then the model's summary of its draft, so that both can be compared."""
    outcome = codes.ASSESSED if reading.assessed else codes.NOT_ASSESSABLE
    drafted = [_sentence(one, reading, codes.IMPRESSION) for one in reading.draft.impression if one.text.strip()]
    return container(
        codes.IMPRESSIONS,
        [
            text_item(CONTAINS, codes.IMPRESSION, wording.outcome(reading)),
            code_item(CONTAINS, codes.OUTCOME, outcome),
            *drafted,
            *(text_item(CONTAINS, codes.COMMENT, line) for line in wording.skipped_lines(reading)),
        ],
        CONTAINS,
    )
