"""The draft as a Basic Text SR: headings and plain text, for dictation systems that import nothing else (PS3.3 A.35.1).

Basic Text has no NUM items; numbers stand in the words.
"""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage

from inference.reading import Reading
from reporting import codes, wording
from reporting.content import CONTAINS, container, image_items, text_item
from reporting.context import DocumentKind
from reporting.materials import Materials
from reporting.sr_context import language, notice_items, observer, procedures
from reporting.sr_header import SrFrame, sr_dataset

SERIES_NUMBER: Final = 9907


def text_sr(made: Materials) -> Dataset:
    """One text under each heading; where there is no draft it says so and why."""
    frame = SrFrame(
        kind=DocumentKind.TEXT_SR,
        sop_class_uid=BasicTextSRStorage,
        series_number=SERIES_NUMBER,
        series_description=wording.series_description(wording.DRAFT_SERIES, made.reading),
    )
    return sr_dataset(made.source, made.reading, made.options, made.key, frame, _root(made))


def _root(made: Materials) -> Dataset:
    source, reading = made.source, made.reading
    shown = image_items(CONTAINS, codes.SOURCE_IMAGE, source.reference(reading.draft.source))
    findings = [*notice_items(reading), text_item(CONTAINS, codes.FINDING, _findings(reading)), *shown]
    impressions = [text_item(CONTAINS, codes.IMPRESSION, _impression(reading))]
    sections = [container(codes.FINDINGS, findings, CONTAINS), container(codes.IMPRESSIONS, impressions, CONTAINS)]
    context = [language(), *observer(source, made.options), *procedures(source)]
    return container(codes.DIAGNOSTIC_IMAGING_REPORT, [*context, *sections], template="2000")


def _findings(reading: Reading) -> str:
    drafted = [one for one in reading.draft.sentences if one.text.strip()]
    lines = [wording.sentence_line(one, reading) for one in drafted] or [wording.no_draft(reading)]
    return "\r\n".join([*lines, *(wording.agreement_lines(reading) if drafted else ())])


def _impression(reading: Reading) -> str:
    drafted = [wording.sentence_line(one, reading) for one in reading.draft.impression if one.text.strip()]
    return "\r\n".join([wording.outcome(reading), *drafted, *wording.skipped_lines(reading)])
