"""The comparison with earlier studies, read back from our findings SR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydicom import Dataset

from inference.reading import Code, FrameSource
from reporting import codes
from reporting.comparison import Change, Compared, Comparison, Obstacle, days_between
from reporting.content import concept, is_code
from reporting.errors import DocumentError
from reporting.read_back_words import Spoken
from reporting.wording.compared import obstacle_phrases

_CHANGE: Final = {code.value: change for change, code in codes.CHANGE_OF.items()}
_DECISION: Final = {code.value: decision for decision, code in codes.PRESENCE_OF.items()}
_PHRASES: Final = {one: one.name.lower() for one in Obstacle}


def comparisons(ds: Dataset, said: Spoken) -> tuple[Comparison, ...]:
    """In the document's order; reasons in its language. Raises DocumentError where a part is missing."""
    sections = [item for item in ds.get("ContentSequence") or () if is_code(concept(item), codes.PREVIOUS_FINDINGS)]
    return tuple(_comparison(section, ds, said) for section in sections)


def _comparison(section: Dataset, ds: Dataset, said: Spoken) -> Comparison:
    uid = str(_one(section, codes.PROCEDURE_STUDY_UID).UID)
    day, clock = _text(section, codes.STUDY_DATE, "Date"), _text(section, codes.STUDY_TIME, "Time")
    series = _series(ds, uid)
    return Comparison(
        study_uid=uid,
        study_date=day,
        study_time=clock,
        days=days_between(day, str(ds.get("StudyDate") or "")),
        findings=tuple(_compared(item, said) for item in _named(section, codes.PREVIOUS_FINDING)),
        images=tuple(_image(item, series) for item in _named(section, codes.BASELINE)),
    )


def _compared(item: Dataset, said: Spoken) -> Compared:
    answer = [concept(one, "ConceptCodeSequence") for one in _named(item, codes.PRESENCE)]
    change = concept(_one(item, codes.CHANGE), "ConceptCodeSequence")
    number = _named(item, codes.CERTAINTY)
    obstacle, reason = _obstacle(_text(item, codes.COMMENT, "TextValue"), said)
    return Compared(
        key=str(_one(item, codes.TRACKING_IDENTIFIER).TextValue),
        change=_CHANGE[change.value] if change else Change.NOT_COMPARABLE,
        obstacle=obstacle,
        decision=_DECISION[answer[0].value] if answer and answer[0] else None,
        probability=round(float(number[0].MeasuredValueSequence[0].NumericValue) / 100, 4) if number else None,
        reason=reason,
    )


def _obstacle(text: str, said: Spoken) -> tuple[Obstacle | None, str]:
    if not text:
        return None, ""
    for obstacle in obstacle_phrases(said.words):
        parts = said.parts(_PHRASES[obstacle], text)
        if parts is not None:
            given = parts.get("reason", "")
            return obstacle, "" if given == said.words.phrases.no_reason else given
    raise DocumentError("the report does not say why it compares nothing in the form this version writes")


def _image(item: Dataset, series: Mapping[str, str]) -> FrameSource:
    found = item.ReferencedSOPSequence[0]
    uid = str(found.ReferencedSOPInstanceUID)
    return FrameSource(uid, str(found.ReferencedSOPClassUID), series.get(uid, ""))


def _series(ds: Dataset, study_uid: str) -> dict[str, str]:
    """SOP Instance UID to Series Instance UID of the evidence of an earlier study."""
    return {
        str(reference.ReferencedSOPInstanceUID): str(series.SeriesInstanceUID)
        for study in ds.get("PertinentOtherEvidenceSequence") or ()
        if study.StudyInstanceUID == study_uid
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def _named(item: Dataset, name: Code) -> list[Dataset]:
    return [child for child in item.get("ContentSequence") or () if is_code(concept(child), name)]


def _one(item: Dataset, name: Code) -> Dataset:
    found = _named(item, name)
    if not found:
        raise DocumentError(f"a comparison of the report lacks {name.meaning}")
    return found[0]


def _text(item: Dataset, name: Code, keyword: str) -> str:
    found = _named(item, name)
    return str(found[0].get(keyword) or "") if found else ""
