"""The sentences of our documents: what a radiologist reads. English only so far (``options.LANGUAGES``)."""

from __future__ import annotations

from collections import Counter
from typing import Final

from inference.reading import Decision, Finding, ModelVersion, Reading, Sentence, UseMode

DISCLAIMER: Final = "AI draft, not a diagnosis. No person has verified it."
PHANTOM_MARK: Final = "phantom – not for patients"  # the same words as inference.bundles.PHANTOM_MARK; a test compares them
FINDINGS_SERIES: Final = "AI findings (draft)"
DRAFT_SERIES: Final = "AI draft report"
NO_INTERPRETER: Final = "No interpreter: AI draft, read by nobody yet"
BURNED_IN: Final = "AI draft, not for diagnosis"
HEAT_LEGEND: Final = ("most", "none")  # the ends of a heat map's ramp
_MODE: Final = {
    UseMode.RESEARCH: "Made in research mode: not for use in care.",
    UseMode.SHADOW: "Made in shadow mode: held back from care.",
    UseMode.ASSIST: "",
}


def series_description(title: str, reading: Reading) -> str:
    return f"{title}, PHANTOM not for patients" if reading.phantom else title


def notices(reading: Reading) -> tuple[str, ...]:
    """What every document says of its own standing, the most important first."""
    phantom = f"Made by a {PHANTOM_MARK}." if reading.phantom else ""
    permitted = [_acknowledged(model) for model in reading.models if model.acknowledgement]
    return tuple(note for note in (DISCLAIMER, phantom, _MODE[reading.mode], *permitted) if note)


def outcome(reading: Reading) -> str:
    """The whole result in a line or two: never empty."""
    if not reading.assessed:
        return f"Not assessable: {sentence(reading.reason)}"
    if not reading.findings:
        return "No finding was judged: the catalogue holds none for this study."
    return " ".join(part for part in (_marked(reading), _open(reading)) if part)


def finding_line(finding: Finding) -> str:
    """One finding in words: ``Pneumothorax: present, probability 93.1 % (threshold 50.0 %), STAT.``"""
    name = finding.code.meaning
    if finding.probability is None:
        return f"{name}: not assessable. {sentence(finding.reason or 'No reason was given')}"
    said = "present" if finding.decision is Decision.POSITIVE else "absent"
    urgency = f", {finding.urgency.value}" if finding.decision is Decision.POSITIVE else ""
    return f"{name}: {said}, probability {percent(finding.probability)} (threshold {percent(finding.threshold)}){urgency}."


def sentence_line(drafted: Sentence, reading: Reading) -> str:
    """A drafted sentence with its confidence and, where the findings contradict it, with what they say."""
    mark = contradiction(drafted, reading)
    return f"{drafted.text} [confidence {percent(drafted.confidence)}]{f' ({mark})' if mark else ''}"


def contradiction(drafted: Sentence, reading: Reading) -> str:
    """``the findings say otherwise: Pneumothorax: present, …``; empty where they do not."""
    said = [finding_line(finding).rstrip(".") for finding in reading.findings if finding.key in drafted.contradicts]
    return f"the findings say otherwise: {'; '.join(said)}" if said else ""


def agreement_lines(reading: Reading) -> tuple[str, ...]:
    """Where draft and findings differ, for those who read no single sentence; none where they agree or were not compared."""
    draft = reading.draft
    marked = {key for one in (*draft.sentences, *draft.impression) for key in one.contradicts}
    contradicted, omitted = _names(reading, marked), _names(reading, set(draft.omits))
    lines = (
        f"The draft contradicts the findings: {contradicted}." if contradicted else "",
        f"Not mentioned in the draft: {omitted}." if omitted else "",
    )
    return tuple(line for line in lines if line)


def checking_lines(reading: Reading) -> tuple[str, ...]:
    """How the draft was held against the findings, and what was left out of it."""
    draft = reading.draft
    how = f"The draft was compared with the findings by {draft.checked}." if draft.checked else ""
    return tuple(line for line in (how, *map(sentence, draft.notes)) if line)


def no_draft(reading: Reading) -> str:
    """Why there is no draft: said, never left out."""
    why = reading.draft.reason or reading.reason or "the drafting model gave no text"
    return f"No draft text was made: {sentence(why)}"


def skipped_lines(reading: Reading) -> tuple[str, ...]:
    """How many instances were not read, by reason."""
    counts = Counter(skip.reason for skip in reading.skipped)
    return tuple(
        f"{count} {'instance' if count == 1 else 'instances'} not read: {sentence(why)}" for why, count in counts.items()
    )


def unreferable(count: int) -> tuple[str, ...]:
    """Said where the source images' own UIDs keep them from being referred to."""
    what = "instance has" if count == 1 else "instances have"
    return (f"{count} {what} no legal UIDs of their own and cannot be referred to.",) if count else ()


def catalogue_line(reading: Reading) -> str:
    return f"{reading.catalogue.name} {reading.catalogue.version}, sha256 {reading.catalogue.digest}"


def model_line(model: ModelVersion) -> str:
    """A model as its card names it."""
    return (
        f"{model.name} {model.version} ({model.kind}), from {model.source}, licence {model.licence}, "
        f"intended use: {model.intended_use}, sha256 {model.digest}"
    )


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def sentence(words: str) -> str:
    """With a full stop at its end, once."""
    stripped = words.strip()
    return stripped if stripped.endswith((".", "!", "?")) else f"{stripped}."


def _names(reading: Reading, keys: set[str]) -> str:
    """``Pneumothorax (present), Nodule (absent)``"""
    said = {Decision.POSITIVE: "present", Decision.NEGATIVE: "absent"}
    found = [finding for finding in reading.findings if finding.key in keys]
    return ", ".join(f"{one.code.meaning} ({said.get(one.decision, one.decision.value)})" for one in found)


def _marked(reading: Reading) -> str:
    if not reading.positives:
        return "No finding reached its threshold; this does not exclude disease." if _judged(reading) else ""
    names = ", ".join(
        f"{finding.code.meaning} {percent(finding.probability or 0.0)} ({finding.urgency.value})"
        for finding in reading.positives
    )
    return f"Marked for review: {names}."


def _open(reading: Reading) -> str:
    names = [finding.code.meaning for finding in reading.findings if finding.decision is Decision.NOT_ASSESSABLE]
    return f"Not assessable: {', '.join(names)}." if names else ""


def _judged(reading: Reading) -> bool:
    return any(finding.probability is not None for finding in reading.findings)


def _acknowledged(model: ModelVersion) -> str:
    record = sentence(model.acknowledgement)
    return f"Use of {model.name} beyond its licence or card is permitted by the operator's record: {record}"
