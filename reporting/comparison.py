"""A reading beside those of earlier studies of its patient: the model's own earlier word, never a radiologist's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum

from inference.reading import Decision, Finding, FrameSource, Reading
from reporting.heads import heads_of, triage_model


class Change(StrEnum):
    """What the model saw then and now."""

    NEW = "new"  # not then, now
    KNOWN = "known"  # then and now
    GONE = "no longer seen"  # then, not now
    ABSENT = "not seen"  # neither
    NOT_COMPARABLE = "not comparable"  # ``Compared.obstacle`` says why


class Obstacle(StrEnum):
    """Why the answers of then and now cannot be compared."""

    OPEN_NOW = "open now"  # now it is not assessable
    OPEN_THEN = "open then"  # it was not assessable then; ``Compared.reason`` says why
    NOT_ASKED = "not asked"  # nobody asked for it then
    OTHER_MODEL = "other model"
    OTHER_CATALOGUE = "other catalogue"
    OTHER_HEAD = "other head"  # another calibration or probe, or none, formed the probability


@dataclass(frozen=True, slots=True)
class PriorAnswer:
    """What was said of one finding then.

    ``probability``: 0..1, None where not assessable. ``head``: digest of what was fitted on labelled films and formed it.
    """

    key: str
    decision: Decision
    probability: float | None = None
    reason: str = ""
    head: str = ""


@dataclass(frozen=True, slots=True)
class PriorReading:
    """What the node said of an earlier study, as far as a comparison needs it.

    ``study_date``: YYYYMMDD, ``study_time``: HHMMSS or its beginning; empty where the images do not tell. ``revision``: of the
    reading. ``model``, ``catalogue``: digests. ``images``: those that were read, each once.
    """

    study_uid: str
    study_date: str
    study_time: str
    revision: int
    model: str
    catalogue: str
    answers: tuple[PriorAnswer, ...]
    images: tuple[FrameSource, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """One finding against one prior.

    ``decision``, ``probability`` (0..1), ``reason``: of then; None and empty where not told.
    """

    key: str
    change: Change
    obstacle: Obstacle | None = None
    decision: Decision | None = None
    probability: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A reading against one prior. ``days``: before the study; None where one of the two tells no date."""

    study_uid: str
    study_date: str
    study_time: str
    days: int | None
    findings: tuple[Compared, ...]
    images: tuple[FrameSource, ...] = ()


def prior_reading(study_uid: str, day: str, clock: str, revision: int, reading: Reading) -> PriorReading:
    """What of an earlier study's reading is compared with. ``day``, ``clock``: its date and time, empty where not told."""
    answers = tuple(
        PriorAnswer(one.key, one.decision, one.probability, one.reason or reading.reason, _head(reading, one))
        for one in reading.findings
    )
    images = {one.sop_instance_uid: FrameSource(one.sop_instance_uid, one.sop_class_uid, one.series_instance_uid)
              for one in reading.sources}  # fmt: skip
    judge, asked = _judge(reading), reading.catalogue.digest
    return PriorReading(study_uid, day, clock, revision, judge, asked, answers, tuple(images.values()))


def compare(reading: Reading, priors: Sequence[PriorReading], study_date: str) -> tuple[Comparison, ...]:
    """A reading against each prior, the newest first; findings in the order of the reading. ``study_date``: of its study."""
    newest = sorted(priors, key=lambda one: (one.study_date, one.study_time, one.study_uid), reverse=True)
    return tuple(
        Comparison(
            one.study_uid,
            one.study_date,
            one.study_time,
            days_between(one.study_date, study_date),
            tuple(_compared(finding, one, reading) for finding in reading.findings),
            one.images,
        )
        for one in newest
    )


def days_between(earlier: str, later: str) -> int | None:
    """Of two DICOM dates; None where one is none."""
    try:
        return (date.fromisoformat(later) - date.fromisoformat(earlier)).days
    except ValueError:
        return None


def digest_of(priors: Iterable[PriorReading]) -> str:
    """sha256 over all that a comparison takes from priors; empty where there is none."""
    said = json.dumps([asdict(one) for one in priors], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest() if said != "[]" else ""


def change_of(then: Decision, now: Decision) -> Change:
    """Of two answers of the same model."""
    if Decision.NOT_ASSESSABLE in (then, now):
        return Change.NOT_COMPARABLE
    pair = (then is Decision.POSITIVE, now is Decision.POSITIVE)
    return {(False, True): Change.NEW, (True, True): Change.KNOWN, (True, False): Change.GONE}.get(pair, Change.ABSENT)


def _compared(finding: Finding, prior: PriorReading, reading: Reading) -> Compared:
    then = next((one for one in prior.answers if one.key == finding.key), None)
    if then is None:
        same = prior.catalogue == reading.catalogue.digest
        return Compared(finding.key, Change.NOT_COMPARABLE, Obstacle.NOT_ASKED if same else Obstacle.OTHER_CATALOGUE)
    obstacle = _obstacle(finding, then, prior, reading)
    change = Change.NOT_COMPARABLE if obstacle else change_of(then.decision, finding.decision)
    reason = then.reason if then.decision is Decision.NOT_ASSESSABLE else ""
    return Compared(finding.key, change, obstacle, then.decision, then.probability, reason)


def _obstacle(finding: Finding, then: PriorAnswer, prior: PriorReading, reading: Reading) -> Obstacle | None:
    if then.decision is Decision.NOT_ASSESSABLE:
        return Obstacle.OPEN_THEN
    if prior.model != _judge(reading) and reading.models:
        return Obstacle.OTHER_MODEL
    if prior.catalogue != reading.catalogue.digest:
        return Obstacle.OTHER_CATALOGUE
    if finding.decision is Decision.NOT_ASSESSABLE:
        return Obstacle.OPEN_NOW
    return Obstacle.OTHER_HEAD if then.head != _head(reading, finding) else None


def _judge(reading: Reading) -> str:
    """The digest of the model that judged the findings; empty where none did."""
    model = triage_model(reading)
    return model.digest if model else ""


def _head(reading: Reading, finding: Finding) -> str:
    """The digests of what was fitted on labelled films and formed the finding's probability."""
    return " ".join(head.digest for head in heads_of(reading, finding)) if finding.probability is not None else ""
