"""The draft as a Basic Text SR: headings and plain text, for dictation systems that import nothing else (PS3.3 A.35.1).

Basic Text has no NUM items; numbers stand in the words.
"""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage

from inference.reading import Reading
from reporting import codes
from reporting.content import CONTAINS, Item, container, image_items, text_item
from reporting.context import DocumentKind
from reporting.heads import deciding_heads
from reporting.materials import Materials
from reporting.sr_comparison import flat_sections
from reporting.sr_context import language, notice_items, observer, procedures
from reporting.sr_header import SrFrame, sr_dataset
from reporting.wording import Words

SERIES_NUMBER: Final = 9907


def text_sr(made: Materials) -> Dataset:
    """One text under each heading; where there is no draft it says so and why."""
    frame = SrFrame(
        kind=DocumentKind.TEXT_SR,
        sop_class_uid=BasicTextSRStorage,
        series_number=SERIES_NUMBER,
        series_description=made.words.series_description(made.words.phrases.draft_series, made.reading),
    )
    return sr_dataset(made.source, made.reading, made.options, made.key, frame, _root(made))


def _root(made: Materials) -> Item:
    source, reading, words = made.source, made.reading, made.words
    shown = image_items(CONTAINS, codes.SOURCE_IMAGE, source.reference(reading.draft.source))
    made_by = [text_item(CONTAINS, codes.COMMENT, line) for line in _made_by(reading, words)]
    said = text_item(CONTAINS, codes.FINDING, _findings(reading, words))
    findings = [*notice_items(words.draft_notices(reading)), said, *shown, *made_by]
    impressions = [text_item(CONTAINS, codes.IMPRESSION, _impression(reading, words))]
    sections = [
        container(codes.FINDINGS, findings, CONTAINS),
        *flat_sections(source, reading, words),
        container(codes.IMPRESSIONS, impressions, CONTAINS),
    ]
    context = [language(made.options.language), *observer(source, made.options), *procedures(source)]
    return container(codes.DIAGNOSTIC_IMAGING_REPORT, [*context, *sections], template="2000")


def _made_by(reading: Reading, words: Words) -> tuple[str, ...]:
    return (*map(words.head_line, deciding_heads(reading)), *words.method_lines(reading))


def _findings(reading: Reading, words: Words) -> str:
    drafted = [one for one in reading.draft.sentences if one.text.strip()]
    lines = [words.sentence_line(one, reading) for one in drafted] or [words.no_draft(reading)]
    return "\r\n".join([*lines, *(words.agreement_lines(reading) if drafted else ())])


def _impression(reading: Reading, words: Words) -> str:
    drafted = [words.sentence_line(one, reading) for one in reading.draft.impression if one.text.strip()]
    return "\r\n".join([words.outcome(reading), *drafted, *words.skipped_lines(reading)])
