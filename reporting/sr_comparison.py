"""The comparison with earlier studies as sections of our SR documents: Previous Findings (CID 7001), one for each prior.

The section's Procedure Context (TID 1005) names the earlier study, so that what stands in it is said of that study; its images
are in the Pertinent Other Evidence (PS3.3 C.17.2.3). DICOM's codes of change speak of mammograms (CID 6002) or of lesions that
were measured (CID 6144): the change has codes of our own, what was said then those of CID 240.
"""

from __future__ import annotations

from collections.abc import Iterator

from inference.reading import Code, Reading
from reporting import codes
from reporting.comparison import Compared, Comparison
from reporting.content import (
    CONTAINS,
    HAS_ACQ_CONTEXT,
    HAS_OBS_CONTEXT,
    HAS_PROPERTIES,
    ImageReference,
    Item,
    code_item,
    container,
    date_item,
    image_item,
    percent_item,
    text_item,
    time_item,
    uid_item,
)
from reporting.source import SourceStudy, prior_images
from reporting.uids import tracking_uid
from reporting.wording import Words
from reporting.wording.compared import codes_of, compared_line, compared_lines, obstacle_line, prior_line


def comparison_sections(source: SourceStudy, reading: Reading, words: Words, *, dated: bool) -> list[Item]:
    """Coded and in words. ``dated``: with the earlier study's date as an item of its own, which TID 2000 has no row for."""
    return [_section(prior, reading, words, dated=dated) for prior in source.comparisons(reading)]


def flat_sections(source: SourceStudy, reading: Reading, words: Words) -> list[Item]:
    """In words only, for Basic Text SR."""
    return [
        container(
            codes.PREVIOUS_FINDINGS,
            [
                *_opening(prior, words),
                text_item(CONTAINS, codes.PREVIOUS_FINDING, "\r\n".join(compared_lines(words, prior, reading)) or "-"),
            ],
            CONTAINS,
        )
        for prior in source.comparisons(reading)
    ]


def _section(prior: Comparison, reading: Reading, words: Words, *, dated: bool) -> Item:
    study, *said = _opening(prior, words)
    findings = zip(prior.findings, codes_of(prior, reading), strict=True)
    children = [
        study,
        *(_when(prior) if dated else ()),
        *said,
        *(_finding(prior.study_uid, one, code, words) for one, code in findings),
        *(image_item(CONTAINS, codes.BASELINE, image) for image in _images(prior)),
    ]
    return container(codes.PREVIOUS_FINDINGS, children, CONTAINS)


def _opening(prior: Comparison, words: Words) -> list[Item]:
    """Which study, and whose word it is."""
    return [
        uid_item(HAS_OBS_CONTEXT, codes.PROCEDURE_STUDY_UID, prior.study_uid),
        text_item(CONTAINS, codes.NOTICE, words.phrases.comparison_standing),
        text_item(CONTAINS, codes.COMMENT, prior_line(words, prior)),
    ]


def _when(prior: Comparison) -> Iterator[Item]:
    if prior.study_date:
        yield date_item(HAS_ACQ_CONTEXT, codes.STUDY_DATE, prior.study_date)
    if prior.study_time:
        yield time_item(HAS_ACQ_CONTEXT, codes.STUDY_TIME, prior.study_time)


def _finding(study_uid: str, one: Compared, code: Code, words: Words) -> Item:
    below = [
        text_item(HAS_PROPERTIES, codes.TRACKING_IDENTIFIER, one.key),
        uid_item(HAS_PROPERTIES, codes.TRACKING_UID, tracking_uid(study_uid, one.key)),
        code_item(HAS_PROPERTIES, codes.FINDING, code),
        code_item(HAS_PROPERTIES, codes.CHANGE, codes.CHANGE_OF[one.change]),
    ]
    if one.decision is not None:
        below.append(code_item(HAS_PROPERTIES, codes.PRESENCE, codes.PRESENCE_OF[one.decision]))
    if one.probability is not None:
        below.append(percent_item(HAS_PROPERTIES, codes.CERTAINTY, one.probability, codes.PERCENT))
    if reason := obstacle_line(words, one):
        below.append(text_item(HAS_PROPERTIES, codes.COMMENT, reason))
    return text_item(CONTAINS, codes.PREVIOUS_FINDING, compared_line(words, one, words.name(code)), below)


def _images(prior: Comparison) -> list[ImageReference]:
    return [ImageReference(one.sop_class_uid, one.sop_instance_uid, one.modality) for one in prior_images(prior)]
