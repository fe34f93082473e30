"""The draft as an Enhanced SR in the shape of TID 2000 (Basic Diagnostic Imaging Report)."""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, EnhancedSRStorage

from inference.reading import Code, DraftReport, Reading, Sentence
from reporting import codes
from reporting.content import (
    CONTAINS,
    HAS_PROPERTIES,
    Item,
    code_item,
    composite_item,
    container,
    image_items,
    percent_item,
    text_item,
)
from reporting.context import DocumentKind
from reporting.heads import drafting_model
from reporting.options import DocumentOptions
from reporting.source import SourceStudy
from reporting.sr_comparison import comparison_sections
from reporting.sr_context import language, notice_items, observer, procedures
from reporting.sr_header import Companion, SrFrame, sr_dataset
from reporting.uids import ReadingKey
from reporting.wording import WRITTEN_IN, Words, capital, fill, sentence

SERIES_NUMBER: Final = 9902


def draft_sr(source: SourceStudy, reading: Reading, options: DocumentOptions, key: ReadingKey) -> Dataset:
    """The draft document; where there is no draft it says so and why."""
    frame = SrFrame(
        kind=DocumentKind.DRAFT_SR,
        sop_class_uid=EnhancedSRStorage,
        series_number=SERIES_NUMBER,
        series_description=options.words.series_description(options.words.phrases.draft_series, reading),
        companion=_companion(options, key),
        priors=source.comparisons(reading),
    )
    return sr_dataset(source, reading, options, key, frame, _root(source, reading, options, frame.companion))


def _companion(options: DocumentOptions, key: ReadingKey) -> Companion | None:
    """The findings report, where this site has one made: it may have gone out long before."""
    if DocumentKind.FINDINGS_SR not in options.kinds:
        return None
    return Companion.of(key, DocumentKind.FINDINGS_SR, Comprehensive3DSRStorage)


def _root(source: SourceStudy, reading: Reading, options: DocumentOptions, companion: Companion | None) -> Item:
    children = [language(options.language), *observer(source, options), *procedures(source)]
    children.append(_findings(source, reading, options.words, companion))
    children += comparison_sections(source, reading, options.words, dated=False)
    children.append(_impressions(reading, options.words))
    return container(codes.DIAGNOSTIC_IMAGING_REPORT, children, template="2000")


def _findings(source: SourceStudy, reading: Reading, words: Words, companion: Companion | None) -> Item:
    """The draft's sentences, each with its confidence and what contradicts it, the images they were written from, and the
    findings report."""
    drafted = [_sentence(one, reading, words) for one in reading.draft.sentences if one.text.strip()]
    children = notice_items(words.draft_notices(reading))
    children += drafted or [text_item(CONTAINS, codes.FINDING, words.no_draft(reading))]
    model = drafting_model(reading)
    if drafted:
        lines = [fill(words.phrases.drafted_by, model=words.model_line(model))] if model else []
        lines = [*words.agreement_lines(reading), *lines, *words.checking_lines(reading)]
        children += [text_item(CONTAINS, codes.COMMENT, line) for line in lines]
        children += _images(source, reading.draft)
    if companion:
        named = (companion.sop_class_uid, companion.sop_instance_uid)
        children.append(composite_item(CONTAINS, codes.IMAGING_MEASUREMENT_REPORT, *named))
    return container(codes.FINDINGS, children, CONTAINS)


def _sentence(drafted: Sentence, reading: Reading, words: Words, name: Code = codes.FINDING) -> Item:
    """The words stay as the model wrote them, and say their own language (TID 1204) where it is another than the document's."""
    below = [language(WRITTEN_IN)] if words.language.split("-")[0] != WRITTEN_IN else []
    below.append(percent_item(HAS_PROPERTIES, codes.SENTENCE_CONFIDENCE, drafted.confidence, codes.PERCENT))
    if mark := words.contradiction(drafted, reading):
        below.append(text_item(HAS_PROPERTIES, codes.COMMENT, sentence(capital(mark))))
    return text_item(CONTAINS, name, drafted.text, below)


def _images(source: SourceStudy, draft: DraftReport) -> list[Item]:
    """Each image that a sentence was written from, once."""
    used = dict.fromkeys((draft.source, *(one.source for one in draft.sentences)))
    references = dict.fromkeys(source.reference(one) for one in used if one)
    return [item for one in references for item in image_items(CONTAINS, codes.SOURCE_IMAGE, one)]


def _impressions(reading: Reading, words: Words) -> Item:
    """No impression of a person: the triage outcome, then the model's summary of its draft, so that both can be compared."""
    outcome = codes.ASSESSED if reading.assessed else codes.NOT_ASSESSABLE
    drafted = [_sentence(one, reading, words, codes.IMPRESSION) for one in reading.draft.impression if one.text.strip()]
    return container(
        codes.IMPRESSIONS,
        [
            text_item(CONTAINS, codes.IMPRESSION, words.outcome(reading)),
            code_item(CONTAINS, codes.OUTCOME, outcome),
            *drafted,
            *(text_item(CONTAINS, codes.COMMENT, line) for line in words.skipped_lines(reading)),
        ],
        CONTAINS,
    )
