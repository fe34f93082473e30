"""What documents say of earlier studies, in the sentences of one language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.reading import Code, Decision, Reading
from reporting.comparison import Change, Compared, Comparison, Obstacle
from reporting.wording.words import Words, fill


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a comparison. ``change``: with the reason where there is none; ``then``: empty where it was not told."""

    name: str
    what: Change
    change: str
    then: str


def prior_line(words: Words, prior: Comparison) -> str:
    """``Study of 2026-02-28, 4 days before; Study Instance UID 1.2.3``"""
    return f"{prior_name(words, prior)}; {fill(words.phrases.prior_uid, uid=prior.study_uid)}"


def prior_name(words: Words, prior: Comparison) -> str:
    """``Study of 2026-02-28, 4 days before``"""
    said = words.phrases
    date = " ".join(filter(None, (words.date(prior.study_date), _clock(prior.study_time))))
    if not prior.study_date:
        phrase = said.prior_undated
    elif prior.days is None:
        phrase = said.prior_on
    else:
        phrase = {0: said.prior_same_day, 1: said.prior_day}.get(prior.days, said.prior_days)
    return fill(phrase, date=date, days=str(prior.days))


def change_name(words: Words, change: Change) -> str:
    said = words.phrases
    return {
        Change.NEW: said.change_new,
        Change.KNOWN: said.change_known,
        Change.GONE: said.change_gone,
        Change.ABSENT: said.change_absent,
        Change.NOT_COMPARABLE: said.change_open,
    }[change]


def obstacle_line(words: Words, one: Compared) -> str:
    """Why one finding cannot be compared; empty where it can."""
    if one.obstacle is None:
        return ""
    reason = words.translate(one.reason) if one.reason else words.phrases.no_reason
    return fill(obstacle_phrases(words)[one.obstacle], reason=reason.rstrip("."))


def obstacle_phrases(words: Words) -> Mapping[Obstacle, str]:
    said = words.phrases
    return {
        Obstacle.OPEN_NOW: said.open_now,
        Obstacle.OPEN_THEN: said.open_then,
        Obstacle.NOT_ASKED: said.not_asked,
        Obstacle.OTHER_MODEL: said.other_model,
        Obstacle.OTHER_CATALOGUE: said.other_catalogue,
        Obstacle.OTHER_HEAD: said.other_head,
    }


def compared_line(words: Words, one: Compared, name: str) -> str:
    """``Pneumothorax: new. Then absent, probability 12.0 %.`` ``name``: of the finding."""
    said = words.phrases
    told = {"name": name, "change": change_name(words, one.change), "reason": obstacle_line(words, one)}
    if one.decision is None or one.probability is None:
        return fill(said.compared_open, **told)
    told |= {"answer": words.answer(one.decision), "probability": words.percent(one.probability)}
    return fill(said.compared_both if one.obstacle else said.compared_judged, **told)


def told(words: Words, prior: Comparison, reading: Reading) -> list[Told]:
    """The lines of a table, in the order of the reading."""
    return [
        Told(words.name(code), one.change, _changed(words, one), _then(words, one))
        for one, code in zip(prior.findings, codes_of(prior, reading), strict=True)
    ]


def compared_lines(words: Words, prior: Comparison, reading: Reading) -> list[str]:
    """Each finding in words."""
    pairs = zip(prior.findings, codes_of(prior, reading), strict=True)
    return [compared_line(words, one, words.name(code)) for one, code in pairs]


def codes_of(prior: Comparison, reading: Reading) -> list[Code]:
    """What each line of a comparison is about."""
    known = {finding.key: finding.code for finding in reading.findings}
    return [known[one.key] for one in prior.findings]


def _changed(words: Words, one: Compared) -> str:
    change, reason = change_name(words, one.change), obstacle_line(words, one)
    return fill(words.phrases.not_compared, change=change, reason=reason) if reason else change


def _then(words: Words, one: Compared) -> str:
    if one.decision in (None, Decision.NOT_ASSESSABLE) or one.probability is None:
        return ""
    assert one.decision is not None
    return fill(words.phrases.then_judged, answer=words.answer(one.decision), probability=words.percent(one.probability))


def _clock(text: str) -> str:
    """HH:MM of a DICOM time; empty where it tells less."""
    return f"{text[:2]}:{text[2:4]}" if text[:4].isdigit() and len(text) >= 4 else ""
