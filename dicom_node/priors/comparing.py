"""A reading against those of earlier studies, finding by finding: one model's word against its own, never a radiologist's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from inference.reading import Decision, Finding, Reading


class Change(StrEnum):
    """What the model saw then and now."""

    NEW = "new"  # not then, now
    KNOWN = "known"  # then and now
    GONE = "no longer seen"  # then, not now
    ABSENT = "not seen"  # neither
    NOT_COMPARABLE = "not comparable"  # one of the two could not be assessed, or another model judged


@dataclass(frozen=True, slots=True)
class Earlier:
    """A prior's reading. ``study_date``: YYYYMMDD, empty where not told."""

    study_uid: str
    study_date: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Compared:
    """One finding against one prior. ``probability``: of the prior, None where not assessable."""

    key: str
    prior: Earlier
    change: Change
    decision: Decision | None
    probability: float | None


def compare(reading: Reading, priors: Sequence[Earlier]) -> tuple[Compared, ...]:
    """Every finding against every prior, in the order of the reading."""
    return tuple(_compared(finding, one, reading) for finding in reading.findings for one in priors)


def _compared(finding: Finding, prior: Earlier, reading: Reading) -> Compared:
    then = next((one for one in prior.reading.findings if one.key == finding.key), None)
    if then is None:
        return Compared(finding.key, prior, Change.NOT_COMPARABLE, None, None)
    same = reading.models[:1] == prior.reading.models[:1] and reading.catalogue == prior.reading.catalogue
    return Compared(
        finding.key, prior, _change(then, finding) if same else Change.NOT_COMPARABLE, then.decision, then.probability
    )


def _change(then: Finding, now: Finding) -> Change:
    if Decision.NOT_ASSESSABLE in (then.decision, now.decision):
        return Change.NOT_COMPARABLE
    pair = (then.decision is Decision.POSITIVE, now.decision is Decision.POSITIVE)
    return {(False, True): Change.NEW, (True, True): Change.KNOWN, (True, False): Change.GONE}.get(pair, Change.ABSENT)
