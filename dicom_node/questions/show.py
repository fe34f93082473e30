"""What `ask`, `draft` and `summarize` print: lines for a person, or JSON with the same content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from dicom_node.pictures import Picture
from inference.drafting.results import Answer, Choice, ScoredText, Summary
from inference.reading import ModelVersion, Reading, Sentence
from reporting import wording

_ENGLISH: Final = wording.of("en")
NOT_A_DIAGNOSIS: Final = "Written by a model and checked by nobody: not a diagnosis."
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """An answer with what it answers: the question, the picture, and the model."""

    question: str
    answered: Answer | Choice
    shown: Picture
    model: ModelVersion

    @property
    def text(self) -> str:
        best = self._best
        return best.text if best else ""

    @property
    def score(self) -> float:
        """Of an open answer exp(mean token log-probability), of a choice its probability among the choices; 0..1."""
        if isinstance(self.answered, Answer):
            return self.answered.confidence
        return self._best.probability if isinstance(self._best, ScoredText) else 0.0

    def lines(self) -> Iterator[str]:
        yield f"Question: {self.question}"
        yield f"Answer: {self.text} [{_ENGLISH.percent(self.score)}]"
        if isinstance(self.answered, Choice):
            yield f"Of: {', '.join(f'{one.text} {_ENGLISH.percent(one.probability)}' for one in self.answered.scores)}"
        else:
            yield from self.answered.notes
        yield f"Image: {_image_line(self.shown)}"
        yield from _standing(self.model)

    def json(self) -> Json:
        choices = [asdict(one) for one in self.answered.scores] if isinstance(self.answered, Choice) else []
        said = {"question": self.question, "answer": self.text, "score": self.score, "choices": choices}
        return {**said, "image": _image_json(self.shown), **_standing_json(self.model)}

    @property
    def _best(self) -> Answer | ScoredText | None:
        return self.answered if isinstance(self.answered, Answer) else self.answered.best


def draft_lines(pictures: Sequence[Picture], reading: Reading) -> Iterator[str]:
    written = reading.draft
    yield f"Draft of {', '.join(dict.fromkeys(str(picture.name) for picture in pictures))}:"
    yield from (f"  {line}" for line in _sentence_lines(written.sentences, reading) or [_ENGLISH.no_draft(reading)])
    if written.impression:
        yield "Impression:"
        yield from (f"  {line}" for line in _sentence_lines(written.impression, reading))
    yield from _ENGLISH.agreement_lines(reading)
    yield from _ENGLISH.checking_lines(reading) or (
        [] if reading.assessed else [f"Not compared with findings: {reading.reason}"]
    )
    yield from (f"Model: {model.name} {model.version}" for model in reading.models)
    yield from (*_ENGLISH.notices(reading), "")


def _sentence_lines(sentences: Sequence[Sentence], reading: Reading) -> list[str]:
    return [_ENGLISH.sentence_line(sentence, reading) for sentence in sentences]


def draft_json(pictures: Sequence[Picture], reading: Reading) -> Json:
    written = reading.draft
    return {
        "images": [_image_json(picture) for picture in pictures],
        "sentences": [_sentence_json(sentence) for sentence in written.sentences],
        "impression": [_sentence_json(sentence) for sentence in written.impression],
        "omits": list(written.omits),
        "checked": written.checked,
        "reason": written.reason,
        "notes": list(written.notes),
        "positive": [finding.key for finding in reading.positives],
        "models": [asdict(model) for model in reading.models],
        "notice": " ".join(_ENGLISH.notices(reading)),
    }


def _sentence_json(sentence: Sentence) -> Json:
    source = sentence.source.sop_instance_uid if sentence.source else ""
    return {
        "text": sentence.text,
        "confidence": sentence.confidence,
        "contradicts": list(sentence.contradicts),
        "sop_instance_uid": source,
    }


def summary_lines(summary: Summary, model: ModelVersion) -> Iterator[str]:
    yield from (f"{sentence.text} [confidence {_ENGLISH.percent(sentence.confidence)}]" for sentence in summary.sentences)
    yield from summary.notes
    yield from _standing(model)


def summary_json(summary: Summary, model: ModelVersion) -> Json:
    sentences = [{"text": sentence.text, "confidence": sentence.confidence} for sentence in summary.sentences]
    return {"sentences": sentences, "notes": list(summary.notes), **_standing_json(model)}


def _image_line(shown: Picture) -> str:
    number = shown.frame.source.frame_number
    return f"{shown.name}{f', frame {number}' if number > 1 else ''}"


def _image_json(shown: Picture) -> Json:
    return {"file": str(shown.name), **asdict(shown.frame.source)}


def _standing(model: ModelVersion) -> tuple[str, ...]:
    return f"Model: {model.name} {model.version}", NOT_A_DIAGNOSIS


def _standing_json(model: ModelVersion) -> Json:
    return {"model": asdict(model), "notice": NOT_A_DIAGNOSIS}


def as_json(said: object) -> None:
    print(json.dumps(said, ensure_ascii=False, indent=2))


def as_lines(lines: Iterable[str]) -> None:
    """A model's text cannot move the cursor: what is not printable becomes a space."""
    for line in lines:
        print("".join(character if character.isprintable() else " " for character in line))
