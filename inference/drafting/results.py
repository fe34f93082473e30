"""What BiomedGPT's tasks are asked for and what they give: plain frozen data, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inference.reading import FrameSource, Sentence


class Task(StrEnum):
    """What a bundle may be fit for (``tasks`` in its ``config.json``)."""

    CAPTION = "caption"  # an image → draft report text
    VQA = "vqa"  # an image and a question → an answer
    CLASSIFICATION = "classification"  # an image and a set of labels → one of them
    NLI = "nli"  # a premise and a hypothesis → entailment, contradiction or neutral
    SUMMARY = "summary"  # a longer text → a shorter one


class DecoderPrompt(StrEnum):
    """What the decoder is given before it answers (``prompt_type`` of the reference)."""

    NONE = "none"  # nothing
    SRC = "src"  # the whole source, its end of sequence included
    PREV_OUTPUT = "prev_output"  # the source without its end of sequence


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in the model's own words, punctuation kept, or none and the ``reason``.

    ``confidence``: exp(mean token log-probability), 0..1; 0 where there is no answer. ``notes``: what was left out of it.
    """

    text: str
    confidence: float
    reason: str = ""
    notes: tuple[str, ...] = ()
    source: FrameSource | None = None


@dataclass(frozen=True, slots=True)
class ScoredText:
    """One candidate. ``log_probability``: sum over its tokens, its end included, among the candidates only; ≤ 0.

    ``probability``: softmax of these sums over all candidates at the temperature asked for, 0..1.
    """

    text: str
    probability: float
    log_probability: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Every candidate scored, in the order given; or no scores and the ``reason``."""

    scores: tuple[ScoredText, ...]
    reason: str = ""
    source: FrameSource | None = None

    @property
    def best(self) -> ScoredText | None:
        """The most probable candidate, the first given of equals; None where there are no scores."""
        return max(self.scores, key=lambda score: score.probability, default=None)


class Relation(StrEnum):
    """What a premise says of a hypothesis."""

    ENTAILMENT = "entailment"  # it follows
    CONTRADICTION = "contradiction"  # it cannot be
    NEUTRAL = "neutral"  # neither


@dataclass(frozen=True, slots=True)
class Inference:
    """Natural-language inference on one pair. Three probabilities, 0..1, that add up to 1."""

    entailment: float
    contradiction: float
    neutral: float

    @property
    def relation(self) -> Relation:
        """The most probable."""
        scores = {
            Relation.ENTAILMENT: self.entailment,
            Relation.CONTRADICTION: self.contradiction,
            Relation.NEUTRAL: self.neutral,
        }
        return max(scores, key=lambda relation: scores[relation])


@dataclass(frozen=True, slots=True)
class Summary:
    """A shorter text, or no sentences and the ``reason``.

    ``cut``: the text was longer than the model reads, and its end took no part. ``notes``: what was left out of the summary.
    """

    sentences: tuple[Sentence, ...]
    reason: str = ""
    cut: bool = False
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)
