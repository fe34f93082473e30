"""What we promise of a comparison with earlier studies: whose word it is, of which study, and that it fits what is said now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydicom import Dataset

from reporting import codes
from reporting.comparison import Change, change_of
from reporting.conformance.templates import children
from reporting.content import concept, is_code, walk
from reporting.context import Fault
from reporting.wording import PHRASES

_OURS: Final = "WetRead conformance statement: comparison"
_CHANGES: Final = {code.value: change for change, code in codes.CHANGE_OF.items()}
_ANSWERS: Final = {code.value: decision for decision, code in codes.PRESENCE_OF.items()}


def comparison_faults(ds: Dataset) -> Iterator[Fault]:
    """Each promise that one of the report's Previous Findings sections breaks."""
    now, standings = _answers_now(ds), _standings(ds)
    seen: set[str] = set()
    for section in children(ds, codes.PREVIOUS_FINDINGS):
        yield from _study(section, ds, seen)
        if not _stands(section, standings):
            yield Fault("comparison-standing", _OURS, "a comparison does not say that it is the model's own earlier word")
        for finding in children(section, codes.PREVIOUS_FINDING):
            if finding.get("ContentSequence"):
                yield from _finding(finding, now)
        yield from _images(section, ds)


def _study(section: Dataset, ds: Dataset, seen: set[str]) -> Iterator[Fault]:
    """TID 1005 row 1: the section's procedure context is another study than the document's."""
    clause = f"{_OURS}, PS3.16 TID 1005 row 1"
    named = [str(one.get("UID", "")) for one in children(section, codes.PROCEDURE_STUDY_UID)]
    if len(named) != 1 or named[0] == ds.get("StudyInstanceUID") or named[0] in seen:
        yield Fault("comparison-study", clause, "a comparison does not name one other study, or names one again")
    seen.update(named)
    dates = [str(one.get("Date", "")) for one in children(section, codes.STUDY_DATE)]
    if any(ds.get("StudyDate") and one > str(ds.get("StudyDate")) for one in dates):
        yield Fault("comparison-date", f"{_OURS}, PS3.16 TID 1602", "a study is called earlier whose date is later")


def _standings(ds: Dataset) -> tuple[str, ...]:
    """The sentence in the language that the root names; in any, where it names none of ours."""
    named = [concept(item, "ConceptCodeSequence") for item in children(ds, codes.LANGUAGE)]
    tags = [code.value.split("-")[0] for code in named if code]
    known = [PHRASES[tag] for tag in tags if tag in PHRASES] or list(PHRASES.values())
    return tuple(said.comparison_standing for said in known)


def _stands(section: Dataset, standings: tuple[str, ...]) -> bool:
    notes = [str(one.get("TextValue", "")) for one in children(section, codes.NOTICE)]
    return any(said in note for note in notes for said in standings)


def _finding(finding: Dataset, now: Mapping[str, str]) -> Iterator[Fault]:
    said = [concept(one, "ConceptCodeSequence") for one in children(finding, codes.CHANGE)]
    change = _CHANGES.get(said[0].value) if len(said) == 1 and said[0] else None
    keys = [str(one.get("TextValue", "")) for one in children(finding, codes.TRACKING_IDENTIFIER)]
    if change is None or len(keys) != 1 or not children(finding, codes.FINDING):
        yield Fault("comparison-finding", _OURS, "an earlier finding lacks its key, its code or its change")
        return
    then = [one.value for item in children(finding, codes.PRESENCE) if (one := concept(item, "ConceptCodeSequence"))]
    if not _agrees(change, then, now.get(keys[0], "") if now else None):
        yield Fault("comparison-change", _OURS, "a change does not follow from what was said then and now")
    if change is Change.NOT_COMPARABLE and not children(finding, codes.COMMENT):
        yield Fault("comparison-reason", _OURS, "a finding is not comparable, and no reason is given")
    yield from _probability(finding, then)


def _agrees(change: Change, then: list[str], now: str | None) -> bool:
    """``now``: the answer's code, empty where nothing is said of the finding now; None in a document that tells no answers."""
    if change is Change.NOT_COMPARABLE:
        return True
    if len(then) != 1 or then[0] not in _ANSWERS:
        return False
    was_present = change in (Change.KNOWN, Change.GONE)
    if (then[0] == codes.PRESENT.value) is not was_present or then[0] == codes.UNDETERMINED.value:
        return False
    return now is None or (now in _ANSWERS and change_of(_ANSWERS[then[0]], _ANSWERS[now]) is change)


def _probability(finding: Dataset, then: list[str]) -> Iterator[Fault]:
    values = [
        float(measured.get("NumericValue", -1))
        for item in children(finding, codes.CERTAINTY)
        for measured in item.get("MeasuredValueSequence") or ()
    ]
    if any(not 0 <= value <= 100 for value in values):
        yield Fault("comparison-probability", _OURS, "an earlier probability is outside 0 to 100 percent")
    if values and (not then or then[0] == codes.UNDETERMINED.value):
        yield Fault("comparison-probability", _OURS, "an earlier probability, though nothing was answered then")


def _images(section: Dataset, ds: Dataset) -> Iterator[Fault]:
    """C.17.2.3: images of an earlier study are other evidence, under that study."""
    named = {str(one.get("UID", "")) for one in children(section, codes.PROCEDURE_STUDY_UID)}
    held = {
        str(reference.get("ReferencedSOPInstanceUID", ""))
        for study in ds.get("PertinentOtherEvidenceSequence") or ()
        if str(study.get("StudyInstanceUID", "")) in named
        for series in study.get("ReferencedSeriesSequence") or ()
        for reference in series.get("ReferencedSOPSequence") or ()
    }
    shown = [one for item in children(section, codes.BASELINE) for one in item.get("ReferencedSOPSequence") or ()]
    if any(str(one.get("ReferencedSOPInstanceUID", "")) not in held for one in shown):
        text = "an image of an earlier study is not in the other evidence of that study"
        yield Fault("comparison-evidence", "PS3.3 C.17.2.3 Pertinent Other Evidence Sequence", text)


def _answers_now(ds: Dataset) -> dict[str, str]:
    """Finding key to the code of its answer; empty of a document without measurement groups."""
    groups = [item for item in walk(ds) if is_code(concept(item), codes.MEASUREMENT_GROUP)]
    return {
        str(key.get("TextValue", "")): answer.value
        for group in groups
        for key in children(group, codes.TRACKING_IDENTIFIER)
        for item in children(group, codes.PRESENCE)
        if (answer := concept(item, "ConceptCodeSequence"))
    }
