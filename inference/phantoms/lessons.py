"""What the phantom is taught beside captions, in the reference's own prompts: source, the decoder's prefix, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from inference.drafting.config import DESCRIBE
from inference.drafting.results import DecoderPrompt
from inference.drafting.texts import nli_source, question_source, summary_source
from inference.phantoms.facts import facts_of
from inference.phantoms.questions import LABELS, Question, ask, ask_of_slice, label_of
from inference.phantoms.statements import (
    CLEAR,
    CLEARED,
    Relation,
    Statement,
    any_absent,
    any_hypothesis,
    any_present,
    impression,
    relation,
)

SLICE: Final = "axial ct slice of the chest."  # the caption of what is no film
_CLASSIFY_SHARE: Final = 0.12  # of the questions about a film


@dataclass(frozen=True, slots=True)
class Lesson:
    """``labels``: the answers among which the loss is taken, as the reference trains classification; none: all texts."""

    task: str
    source: str
    answer: str
    prefix: DecoderPrompt = DecoderPrompt.NONE
    labels: tuple[str, ...] = ()


def caption_lesson(caption: str) -> Lesson:
    return Lesson("caption", DESCRIBE, caption)


def film_lesson(caption: str, rng: np.random.Generator) -> Lesson:
    """A question about a film, or its label."""
    if caption == SLICE:
        return _vqa(ask_of_slice(rng))
    facts = facts_of(caption)
    if rng.random() < _CLASSIFY_SHARE:
        return Lesson("classify", DESCRIBE, label_of(facts, rng), labels=LABELS)
    return _vqa(ask(facts, rng))


def inference_lesson(rng: np.random.Generator) -> Lesson:
    premise, hypothesis, what = inference_pair(rng)
    return Lesson("nli", nli_source(premise, hypothesis), what, DecoderPrompt.SRC)


def inference_pair(rng: np.random.Generator) -> tuple[str, str, Relation]:
    """A sentence, or now and then several, something that follows from it, does not, or may, and which."""
    count = 1 if rng.random() < 0.7 else int(rng.integers(2, 5))
    premise = _statements(count, rng)
    hypothesis = any_hypothesis(premise, rng)
    return _join(premise), hypothesis.text, relation(premise, hypothesis)


def summary_lesson(rng: np.random.Generator) -> Lesson:
    text, shorter = summary_pair(rng)
    return Lesson("summary", summary_source(text), shorter)


def summary_pair(rng: np.random.Generator) -> tuple[str, str]:
    """Findings in any order, and what remains of them."""
    statements = _statements(int(rng.integers(1, 7)), rng, absent=0.45 if rng.random() < 0.75 else 1.0)
    return _join(statements), impression(statements)


def _vqa(question: Question) -> Lesson:
    return Lesson("vqa", question_source(question.text), question.answer, DecoderPrompt.PREV_OUTPUT)


def _statements(count: int, rng: np.random.Generator, absent: float = 0.4) -> list[Statement]:
    """About different things, in any order."""
    found: dict[str, Statement] = {}
    while len(found) < count:
        statement = any_absent(rng) if rng.random() < absent else any_present(rng)
        things = CLEARED if statement.text in CLEAR else (statement.thing,)
        if not found.keys() & set(things):
            found |= {thing: Statement(statement.text, thing, statement.present, statement.attributes) for thing in things}
    return list(found.values())


def _join(statements: Sequence[Statement]) -> str:
    return " ".join(dict.fromkeys(statement.text for statement in statements))
