"""The findings as a Comprehensive 3D SR with TID 1500 at its root: IHE AIR's qualitative findings in TID 1501 groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from inference.reading import Finding, FrameSource, HeadVersion, ModelVersion, Reading
from reporting import codes
from reporting.content import (
    CONTAINS,
    HAS_ACQ_CONTEXT,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    ImageReference,
    Item,
    code_item,
    container,
    image_item,
    image_items,
    percent_item,
    text_item,
    uid_item,
)
from reporting.context import DocumentKind
from reporting.heads import heads_of, triage_model
from reporting.options import DocumentOptions
from reporting.source import SourceStudy
from reporting.sr_comparison import comparison_sections
from reporting.sr_context import language, notice_items, observer, procedures
from reporting.sr_header import SrFrame, sr_dataset
from reporting.uids import ReadingKey, tracking_uid
from reporting.wording import Words

SERIES_NUMBER: Final = 9901


def findings_sr(source: SourceStudy, reading: Reading, options: DocumentOptions, key: ReadingKey) -> Dataset:
    """The findings document; it stands too where nothing could be assessed, and says why."""
    frame = SrFrame(
        kind=DocumentKind.FINDINGS_SR,
        sop_class_uid=Comprehensive3DSRStorage,
        series_number=SERIES_NUMBER,
        series_description=options.words.series_description(options.words.phrases.findings_series, reading),
        priors=source.comparisons(reading),
    )
    return sr_dataset(source, reading, options, key, frame, _root(source, reading, options))


def algorithm(model: ModelVersion, heads: Iterable[HeadVersion], words: Words) -> list[Item]:
    """TID 4019 Algorithm Identification: name and version are mandatory, parameters may be many."""
    return [
        text_item(HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, model.name),
        text_item(HAS_CONCEPT_MOD, codes.ALGORITHM_VERSION, model.version),
        text_item(HAS_CONCEPT_MOD, codes.ALGORITHM_MANUFACTURER, model.source),
        text_item(HAS_CONCEPT_MOD, codes.ALGORITHM_PARAMETERS, f"sha256 {model.digest}"),
        *(text_item(HAS_CONCEPT_MOD, codes.ALGORITHM_PARAMETERS, words.head_line(head)) for head in heads),
    ]


def _root(source: SourceStudy, reading: Reading, options: DocumentOptions) -> Item:
    """TID 1500 Measurement Report."""
    children = [language(options.language), *observer(source, options), *procedures(source)]
    children += _image_library(source, reading.sources)
    if reading.findings:
        groups = [_group(source, reading, finding, options.words) for finding in reading.findings]
        children.append(container(codes.IMAGING_MEASUREMENTS, groups, CONTAINS))
    children.append(_whole_study(source, reading, options.words))
    children += comparison_sections(source, reading, options.words, dated=True)
    return container(codes.IMAGING_MEASUREMENT_REPORT, children, template="1500")


def _image_library(source: SourceStudy, frames: tuple[FrameSource, ...]) -> list[Item]:
    """TID 1600: the images that were read, one group per modality; each image once, whatever the number of its frames."""
    found = [image for frame in frames if (image := source.reference(frame))]
    images = {image.sop_instance_uid: replace(image, frame_number=None) for image in found}.values()
    modalities = dict.fromkeys(image.modality for image in images)
    groups = [_library_group(name, [image for image in images if image.modality == name]) for name in modalities]
    return [container(codes.IMAGE_LIBRARY, groups, CONTAINS)] if groups else []


def _library_group(modality: str, images: list[ImageReference]) -> Item:
    shared = code_item(HAS_ACQ_CONTEXT, codes.MODALITY, codes.MODALITIES.get(modality, codes.OTHER_MODALITY))
    return container(
        codes.IMAGE_LIBRARY_GROUP, [shared, *(image_item(CONTAINS, codes.SOURCE_IMAGE, one) for one in images)], CONTAINS
    )


def _group(source: SourceStudy, reading: Reading, finding: Finding, words: Words) -> Item:
    """TID 1501 for one finding: what was looked for, by what, on which image, and the answer."""
    model = triage_model(reading)
    children = [
        text_item(HAS_OBS_CONTEXT, codes.TRACKING_IDENTIFIER, finding.key),
        uid_item(HAS_OBS_CONTEXT, codes.TRACKING_UID, tracking_uid(source.context.study_instance_uid, finding.key)),
        code_item(CONTAINS, codes.FINDING, finding.code),
    ]
    if finding.site:
        children.append(code_item(HAS_CONCEPT_MOD, codes.FINDING_SITE, finding.site))
    if model:
        children += algorithm(model, heads_of(reading, finding), words)
    children += _probability(finding, words)
    children += [
        percent_item(CONTAINS, codes.THRESHOLD, finding.threshold, codes.PERCENT),
        code_item(CONTAINS, codes.PRESENCE, codes.PRESENCE_OF[finding.decision]),
        code_item(CONTAINS, codes.URGENCY, codes.URGENCY_OF[finding.urgency]),
        text_item(CONTAINS, codes.COMMENT, words.finding_line(finding)),
    ]
    children += image_items(CONTAINS, codes.SOURCE_OF_MEASUREMENT, source.reference(finding.source))
    return container(codes.MEASUREMENT_GROUP, children, CONTAINS, template="1501")


def _probability(finding: Finding, words: Words) -> Iterator[Item]:
    """The number with how it was formed; nothing where there is none."""
    if finding.probability is None:
        return
    yield code_item(HAS_CONCEPT_MOD, codes.MEASUREMENT_METHOD, codes.METHOD_OF[finding.method])
    yield percent_item(CONTAINS, codes.CERTAINTY, finding.probability, codes.PERCENT)
    if finding.aggregation:
        yield text_item(CONTAINS, codes.AGGREGATION, words.translate(finding.aggregation))


def _whole_study(source: SourceStudy, reading: Reading, words: Words) -> Item:
    """TID 1500's Qualitative Evaluations: the outcome for the study as a whole, and how far to trust it."""
    outcome = codes.ASSESSED if reading.assessed else codes.NOT_ASSESSABLE
    children = [
        *notice_items(words.notices(reading)),
        code_item(CONTAINS, codes.OUTCOME, outcome),
        text_item(CONTAINS, codes.CONCLUSION, words.outcome(reading)),
        *(
            text_item(CONTAINS, codes.COMMENT, line)
            for line in (*words.skipped_lines(reading), *words.unreferable(source.unreferable()))
        ),
        text_item(CONTAINS, codes.CATALOGUE, words.catalogue_line(reading)),
    ]
    return container(codes.QUALITATIVE_EVALUATIONS, children, CONTAINS)
