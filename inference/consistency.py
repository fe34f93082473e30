"""Does the draft agree with the findings? Sentences are marked, never changed and never left out.

Each sentence is held against each judged finding: it may affirm it, deny it, or say nothing of it. Two ways of knowing:
natural-language inference by the drafting model ("does the sentence imply that there is a pneumothorax?"), where the bundle is
fit for it and sure enough, and rules over words (``mentions``), always. Either is enough for a mark. A finding that is not
assessable contradicts nothing and is not missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from inference.bundles import Bundle
from inference.drafting.results import Inference, Task
from inference.errors import InputError
from inference.mentions import Says, says, terms_of
from inference.reading import Decision, DraftReport, Finding, Sentence
from inference.triage.catalogue import CatalogueEntry, FindingsCatalogue

SURE: Final = 0.8  # probability from which an inference counts, 0..1
BY_RULES: Final = "rules over words"
_AGAINST: Final = {Decision.POSITIVE: Says.DENIES, Decision.NEGATIVE: Says.AFFIRMS}


class Inferrer(Protocol):
    """What of a drafting model is needed here; ``inference.drafting.drafter.Drafter`` is one."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def tasks(self) -> frozenset[Task]: ...

    def infer(self, pairs: Sequence[tuple[str, str]]) -> list[Inference]: ...


@dataclass(frozen=True, slots=True)
class Mark:
    """What one sentence says of one finding, and how that is known. ``score``: of an inference, 0..1; of a rule, 1."""

    sentence: str
    key: str
    says: Says
    score: float
    by: str


def check(
    draft: DraftReport,
    findings: Sequence[Finding],
    catalogue: FindingsCatalogue,
    inferrer: Inferrer | None,
    *,
    sure: float = SURE,
) -> DraftReport:
    """The draft with its sentences and impression marked, with what it omits, and with how it was checked.

    A draft without text stays as it is: nothing can be held against it. Raises DeviceError where the model's device fails.
    """
    if not draft.sentences:
        return draft
    found = marks((*draft.sentences, *draft.impression), findings, catalogue, inferrer, sure=sure)
    decisions = {finding.key: finding.decision for finding in findings}
    spoken_of = {mark.key for mark in found}
    return replace(
        draft,
        sentences=tuple(_marked(sentence, found, decisions) for sentence in draft.sentences),
        impression=tuple(_marked(sentence, found, decisions) for sentence in draft.impression),
        omits=tuple(f.key for f in findings if f.decision is Decision.POSITIVE and f.key not in spoken_of),
        checked=_how(inferrer, sure),
    )


def marks(
    sentences: Sequence[Sentence],
    findings: Sequence[Finding],
    catalogue: FindingsCatalogue,
    inferrer: Inferrer | None,
    *,
    sure: float = SURE,
) -> tuple[Mark, ...]:
    """Everything the sentences say of the judged findings, by either way; what says nothing has no mark."""
    judged = {finding.key for finding in findings if finding.decision is not Decision.NOT_ASSESSABLE}
    entries = [entry for entry in catalogue.findings if entry.key in judged]
    texts = list(dict.fromkeys(sentence.text for sentence in sentences if sentence.text.strip()))
    inferred = _inferred(texts, entries, inferrer, sure) if _fit(inferrer) else []
    return (*_ruled(texts, entries), *inferred)


def statement(entry: CatalogueEntry) -> str:
    """What a sentence is asked to imply: "there is a lung nodule." in the words of the first prompt that holds the display."""
    name = entry.display.lower()
    return f"there is {next((prompt.lower() for prompt in entry.positive if name in prompt.lower()), name)}."


def _ruled(texts: Sequence[str], entries: Sequence[CatalogueEntry]) -> list[Mark]:
    terms = {entry.key: terms_of(entry) for entry in entries}
    said = [(text, key, says(text, words)) for text in texts for key, words in terms.items()]
    return [Mark(text, key, what, 1.0, BY_RULES) for text, key, what in said if what is not Says.NOTHING]


def _inferred(texts: Sequence[str], entries: Sequence[CatalogueEntry], inferrer: Inferrer | None, sure: float) -> list[Mark]:
    if inferrer is None or not texts or not entries:
        return []
    asked = [(text, entry) for text in texts for entry in entries]
    name, found = inferrer.bundle.card.name, []
    for (text, entry), inference in zip(asked, _infer(inferrer, asked), strict=True):
        scores = ((Says.AFFIRMS, inference.entailment), (Says.DENIES, inference.contradiction)) if inference else ()
        found += [Mark(text, entry.key, what, score, name) for what, score in scores if score >= sure]
    return found


def _infer(inferrer: Inferrer, asked: Sequence[tuple[str, CatalogueEntry]]) -> list[Inference | None]:
    """All at once; where a text is longer than the model reads, the others alone, and None for it: rules still see it."""
    try:
        return list(inferrer.infer([(text, statement(entry)) for text, entry in asked]))
    except InputError:
        if len(asked) == 1:
            return [None]
        return [inference for one in asked for inference in _infer(inferrer, [one])]


def _marked(sentence: Sentence, found: Sequence[Mark], decisions: dict[str, Decision]) -> Sentence:
    against = [mark.key for mark in found if mark.sentence == sentence.text and mark.says is _AGAINST.get(decisions[mark.key])]
    return replace(sentence, contradicts=tuple(dict.fromkeys(against)))


def _fit(inferrer: Inferrer | None) -> bool:
    return inferrer is not None and Task.NLI in inferrer.tasks


def _how(inferrer: Inferrer | None, sure: float) -> str:
    if inferrer is None or not _fit(inferrer):
        return BY_RULES
    return f"natural-language inference by {inferrer.bundle.card.name} (from {sure:.2f}) and {BY_RULES}"
