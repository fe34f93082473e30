"""A study of several images as one draft: which images are read, and how their sentences come together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

import numpy as np

from inference.drafting import tasks
from inference.drafting.results import Summary, Task
from inference.drafting.runtime import Runtime
from inference.drafting.sentences import said
from inference.reading import DraftReport, Frame, Sentence

# Which images show the same: one is read of each group, the first view named before the next. PS3.3 C.8.11.5.1.1 (0018,5101).
_VIEWS: Final = (("PA", "AP", ""), ("LL", "RL", "LATERAL", "LAT"))
_SAMPLE: Final = 256  # points per side when the range of grey levels is taken
NO_IMAGE: Final = "no draft: the study holds no image"
CUT: Final = "the impression rests on the beginning of the draft: all of it is longer than the model reads"


def draft_study(run: Runtime, frames: Sequence[Frame], limit: int | None = None) -> DraftReport:
    """One draft of a study, with an impression where the model can summarise. ``limit``: images, None: as the bundle says.

    Raises DeviceError.
    """
    return draft_studies(run, [frames], limit)[0]


def draft_studies(run: Runtime, studies: Sequence[Sequence[Frame]], limit: int | None = None) -> list[DraftReport]:
    """One draft of each study, in order: images and summaries of all of them go through the model together.

    Raises DeviceError.
    """
    most = run.config.images_per_study if limit is None else limit
    chosen = [choose_images(frames, most) for frames in studies]
    drafted = iter(tasks.draft(run, [frame for images in chosen for frame in images]))
    reports = [
        _of_images(list(islice(drafted, len(images))), len(frames)) for images, frames in zip(chosen, studies, strict=True)
    ]
    return _with_impressions(run, reports) if Task.SUMMARY in run.config.tasks else reports


def _of_images(drafts: Sequence[DraftReport], of: int) -> DraftReport:
    """``of``: how many images the study has."""
    if not drafts:
        return DraftReport((), reason=NO_IMAGE)
    report = merge_drafts(drafts)
    if not report.sentences or len(drafts) == of:
        return report
    return replace(report, notes=(f"the draft was written from {len(drafts)} of {of} images", *report.notes))


def _with_impressions(run: Runtime, reports: Sequence[DraftReport]) -> list[DraftReport]:
    summaries = iter(tasks.summarise(run, [report.text for report in reports if report.sentences]))
    return [_with_impression(report, next(summaries)) if report.sentences else report for report in reports]


def _with_impression(report: DraftReport, summary: Summary) -> DraftReport:
    more = [*summary.notes, *([summary.reason] if summary.reason else []), *([CUT] if summary.cut else [])]
    sentences = tuple(replace(sentence, source=report.source) for sentence in summary.sentences)
    return replace(report, impression=sentences, notes=tuple(dict.fromkeys([*report.notes, *more])))


def choose_images(frames: Sequence[Frame], limit: int) -> list[Frame]:
    """At most ``limit`` frames, one of each view: frontal, then lateral, then others in the order sent.

    Of several images of a view the one with most pixels is taken, of these the one with the widest range of grey levels.
    A frontal film is PA before AP before one that does not say.
    """
    groups: dict[str, list[Frame]] = {"PA": [], "LL": []}
    for frame in frames:
        groups.setdefault(next((group[0] for group in _VIEWS if frame.view in group), frame.view), []).append(frame)
    return [min(group, key=_rank) for group in groups.values() if group][:limit]


def _rank(frame: Frame) -> tuple[int, int, float]:
    group = next((group for group in _VIEWS if frame.view in group), (frame.view,))
    return group.index(frame.view), -frame.size[0] * frame.size[1], -_range(frame)


def _range(frame: Frame) -> float:
    rows, columns = (max(1, side // _SAMPLE) for side in frame.pixels.shape[:2])
    low, high = np.percentile(frame.pixels[::rows, ::columns], (2, 98))
    return float(high - low)


def merge_drafts(drafts: Sequence[DraftReport]) -> DraftReport:
    """One draft of the drafts of several images: what the first says, then what each next one adds.

    A sentence said of an earlier image in the same words is not said again. Where no image gave text, the reasons are joined.
    """
    sentences: dict[tuple[str, ...], Sentence] = {}
    for draft in drafts:
        for sentence in draft.sentences:
            sentences.setdefault(said(sentence.text), sentence)
    reasons = dict.fromkeys(draft.reason for draft in drafts if draft.reason)
    notes = dict.fromkeys(note for draft in drafts for note in draft.notes)
    if not sentences:
        return DraftReport((), reason="; ".join(reasons), source=drafts[0].source if drafts else None)
    silent = {f"one of the images gave no text: {reason}": None for reason in reasons}
    first = next(draft.source for draft in drafts if draft.sentences)
    return DraftReport(tuple(sentences.values()), source=first, notes=tuple(notes | silent))
