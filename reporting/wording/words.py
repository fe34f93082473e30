"""What documents say of a reading, in the sentences of one language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from inference.reading import Code, Decision, Finding, HeadVersion, Method, ModelVersion, Reading, Sentence, Urgency, UseMode
from reporting.wording.phrases import Phrases


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """``language``: a tag of RFC 5646. ``names``: of concepts, by scheme, value and English meaning in lower case.

    ``translate``: a reason that ``inference`` or the node gave in English, in this language; in English where it is not known.
    What a model wrote is never translated.
    """

    language: str
    phrases: Phrases
    names: Mapping[str, str]
    translate: Callable[[str], str]

    def name(self, code: Code) -> str:
        """The concept's name in this language; its own meaning where a site worded it, or where no translation is known."""
        return self.names.get(f"{code.scheme} {code.value} {code.meaning}".lower(), code.meaning)

    def code(self, code: Code) -> Code:
        """The same concept with its meaning in this language (PS3.3 8.3: a translation of the scheme is allowed)."""
        return replace(code, meaning=self.name(code))

    def percent(self, fraction: float) -> str:
        return f"{100 * fraction:.1f} %".replace(".", self.phrases.decimal)

    def date(self, text: str) -> str:
        """A DICOM date (DA) as this language writes it; as it is where it is none."""
        try:
            return datetime.strptime(text, "%Y%m%d").strftime(self.phrases.date)
        except ValueError:
            return text

    def sex(self, term: str) -> str:
        """Patient's Sex (0010,0040) for people; as it is where it is none of its defined terms."""
        said = self.phrases
        return {"F": said.sex_female, "M": said.sex_male, "O": said.sex_other}.get(term, term)

    def time(self, when: datetime) -> str:
        return when.strftime(self.phrases.time)

    def urgency(self, urgency: Urgency) -> str:
        said = self.phrases
        return {Urgency.STAT: said.stat, Urgency.URGENT: said.urgent, Urgency.ROUTINE: said.routine}[urgency]

    def answer(self, decision: Decision) -> str:
        said = self.phrases
        forms = {Decision.POSITIVE: said.present, Decision.NEGATIVE: said.absent, Decision.NOT_ASSESSABLE: said.not_assessable}
        return forms[decision]

    def series_description(self, title: str, reading: Reading) -> str:
        return self.phrases.phantom_series.format(title=title) if reading.phantom else title

    def notices(self, reading: Reading) -> tuple[str, ...]:
        """What every document says of its own standing, the most important first."""
        said = self.phrases
        phantom = said.phantom if reading.phantom else ""
        mode = {UseMode.RESEARCH: said.research, UseMode.SHADOW: said.shadow, UseMode.ASSIST: ""}[reading.mode]
        permitted = [self._acknowledged(model) for model in reading.models if model.acknowledgement]
        return tuple(note for note in (said.disclaimer, phantom, mode, *permitted) if note)

    def draft_notices(self, reading: Reading) -> tuple[str, ...]:
        """The same of a document that shows the draft: with the language of its text, where that is another."""
        written = any(one.text.strip() for one in (*reading.draft.sentences, *reading.draft.impression))
        language = (self.phrases.draft_language,) if written and self.phrases.draft_language else ()
        return (*self.notices(reading), *language)

    def outcome(self, reading: Reading) -> str:
        """The whole result in a line or two: never empty."""
        if not reading.assessed:
            return self.not_assessed(sentence(self.translate(reading.reason)))
        if not reading.findings:
            return self.phrases.none_asked
        return " ".join(part for part in (self._marked(reading), self._open(reading)) if part)

    def finding_line(self, finding: Finding) -> str:
        """One finding in words: ``Pneumothorax: present, probability 93.1 % (threshold 50.0 %), STAT.``"""
        name = self.name(finding.code)
        if finding.probability is None:
            return fill(self.phrases.finding_open, name=name, reason=sentence(self.reason_of(finding)))
        positive = finding.decision is Decision.POSITIVE
        return fill(
            self.phrases.finding_positive if positive else self.phrases.finding_negative,
            name=name,
            probability=self.percent(finding.probability),
            threshold=self.percent(finding.threshold),
            urgency=self.urgency(finding.urgency),
        )

    def reason_of(self, finding: Finding) -> str:
        """Why a finding could not be assessed: never empty."""
        return self.translate(finding.reason) if finding.reason else self.phrases.no_reason

    def not_assessed(self, reason: str) -> str:
        """``Not assessable: …``; ``reason`` is already in this language."""
        return fill(self.phrases.not_assessed, reason=reason)

    def sentence_line(self, drafted: Sentence, reading: Reading) -> str:
        """A drafted sentence with its confidence and, where the findings contradict it, with what they say."""
        mark = self.contradiction(drafted, reading)
        line = fill(self.phrases.drafted, text=drafted.text, confidence=self.percent(drafted.confidence))
        return f"{line} ({mark})" if mark else line

    def contradiction(self, drafted: Sentence, reading: Reading) -> str:
        """``the findings say otherwise: Pneumothorax: present, …``; empty where they do not."""
        found = [self.finding_line(one).rstrip(".") for one in reading.findings if one.key in drafted.contradicts]
        return fill(self.phrases.otherwise, findings="; ".join(found)) if found else ""

    def agreement_lines(self, reading: Reading) -> tuple[str, ...]:
        """Where draft and findings differ, for who reads no single sentence; none where they agree or were not compared."""
        draft = reading.draft
        marked = {key for one in (*draft.sentences, *draft.impression) for key in one.contradicts}
        named = ((self.phrases.contradicted, marked), (self.phrases.omitted, set(draft.omits)))
        lines = [(phrase, self._names(reading, keys)) for phrase, keys in named]
        return tuple(fill(phrase, names=names) for phrase, names in lines if names)

    def checking_lines(self, reading: Reading) -> tuple[str, ...]:
        """How the draft was held against the findings, and what was left out of it."""
        draft = reading.draft
        said = self.phrases
        how = fill(said.compared, how=self.translate(draft.checked)) if draft.checked else ""
        notes = (fill(said.note, reason=sentence(self.translate(note))) for note in draft.notes)
        return tuple(line for line in (how, *notes) if line)

    def no_draft(self, reading: Reading) -> str:
        """Why there is no draft: said, never left out."""
        why = reading.draft.reason or reading.reason
        return fill(self.phrases.no_draft, reason=sentence(self.translate(why) if why else self.phrases.no_text))

    def pending_lines(self, reading: Reading) -> tuple[str, ...]:
        """Said of findings that go out before their draft is written."""
        return (self.no_draft(reading),) if reading.draft.pending else ()

    def skipped_lines(self, reading: Reading) -> tuple[str, ...]:
        """How many instances were not read, by reason."""
        counts = Counter(skip.reason for skip in reading.skipped)
        return tuple(
            fill(
                self.phrases.skipped_one if count == 1 else self.phrases.skipped_many,
                count=str(count),
                reason=sentence(self.translate(why)),
            )
            for why, count in counts.items()
        )

    def unreferable(self, count: int) -> tuple[str, ...]:
        """Said where the source images' own UIDs keep them from being referred to."""
        phrase = self.phrases.unreferable_one if count == 1 else self.phrases.unreferable_many
        return (fill(phrase, count=str(count)),) if count else ()

    def catalogue_line(self, reading: Reading) -> str:
        known = reading.catalogue
        return fill(self.phrases.catalogue, name=known.name, version=known.version, digest=known.digest)

    def model_line(self, model: ModelVersion) -> str:
        """A model as its card names it."""
        parts = ("name", "version", "kind", "source", "licence", "intended_use", "digest")
        return fill(self.phrases.model, **{part: getattr(model, part) for part in parts})

    def head_line(self, head: HeadVersion) -> str:
        """What was fitted on labelled films and took part."""
        return fill(self.phrases.head, kind=self.translate(head.kind), name=head.name, version=head.version, digest=head.digest)

    def method_lines(self, reading: Reading) -> tuple[str, ...]:
        """How the probabilities were formed, a line for each way; the findings are named where there are several."""
        ways: dict[str, list[str]] = {}
        for finding in reading.findings:
            if how := self._how(finding):
                ways.setdefault(how, []).append(self.name(finding.code))
        if len(ways) == 1:
            return tuple(fill(self.phrases.method, how=how) for how in ways)
        return tuple(fill(self.phrases.method_of, how=how, names=", ".join(names)) for how, names in ways.items())

    def method_line(self, finding: Finding) -> str:
        """How the finding's probability was formed; empty where there is none."""
        how = self._how(finding)
        return fill(self.phrases.method, how=how) if how else ""

    def _how(self, finding: Finding) -> str:
        if finding.probability is None:
            return ""
        said = self.phrases
        forms = {Method.ZERO_SHOT: said.zero_shot, Method.CALIBRATED: said.calibrated, Method.PROBE: said.probe}
        how = forms[finding.method]
        if finding.aggregation:
            how = fill(said.aggregation, method=how, images=self.translate(finding.aggregation))
        return how

    def _names(self, reading: Reading, keys: set[str]) -> str:
        """``Pneumothorax (present), Nodule (absent)``"""
        found = [finding for finding in reading.findings if finding.key in keys]
        return ", ".join(
            fill(self.phrases.named_finding, name=self.name(one.code), answer=self.answer(one.decision)) for one in found
        )

    def _marked(self, reading: Reading) -> str:
        if not reading.positives:
            judged = any(finding.probability is not None for finding in reading.findings)
            return self.phrases.none_reached if judged else ""
        marked = (
            fill(
                self.phrases.marked_finding,
                name=self.name(finding.code),
                probability=self.percent(finding.probability or 0.0),
                urgency=self.urgency(finding.urgency),
            )
            for finding in reading.positives
        )
        return fill(self.phrases.marked, names=", ".join(marked))

    def _open(self, reading: Reading) -> str:
        names = [self.name(one.code) for one in reading.findings if one.decision is Decision.NOT_ASSESSABLE]
        return fill(self.phrases.open_findings, names=", ".join(names)) if names else ""

    def _acknowledged(self, model: ModelVersion) -> str:
        return fill(self.phrases.acknowledged, model=model.name, record=sentence(model.acknowledgement))


def fill(phrase: str, **values: Any) -> str:
    """``phrase`` with its placeholders filled; ``{Reason}`` takes ``reason`` with a capital."""
    capitals = {key.capitalize(): capital(str(value)) for key, value in values.items()}
    return phrase.format(**values, **capitals)


def capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def sentence(words: str) -> str:
    """With a full stop at its end, once."""
    stripped = words.strip()
    return stripped if stripped.endswith((".", "!", "?")) else f"{stripped}."
