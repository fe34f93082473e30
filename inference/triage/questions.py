"""Closed visual questions answered by comparing prompts: which of these descriptions is the picture nearest to?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.reading import Frame, FrameSource
from inference.triage.scope import softmax


class Embedder(Protocol):
    """What is needed of ``contrastive.Triage``."""

    @property
    def scale(self) -> float: ...

    def embed(self, frames: Sequence[Frame]) -> NDArray[np.float32]: ...

    def direction(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """One possible answer and the texts that describe a picture of which it is true."""

    answer: str
    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """``probability`` is relative to the other candidates, 0..1: one of them is nearest even where all are wrong."""

    answer: str
    probability: float


@dataclass(frozen=True, slots=True)
class Answers:
    """Most probable first; probabilities sum to 1.

    ``source``: the image that speaks most for the first answer. ``words``: how several images became one, for a person.
    """

    ranked: tuple[Answer, ...]
    source: FrameSource
    words: str

    @property
    def best(self) -> Answer:
        return self.ranked[0]


def answer(triage: Embedder, frames: Sequence[Frame], candidates: Sequence[Candidate]) -> Answers:
    """Softmax over the candidates at the model's logit scale, for each image; of several images the mean (Radford 2021, 3.1.2).

    Of equals the earlier candidate and the earlier image come first. Raises ValueError where there is no image, fewer than two
    candidates, an answer given twice or one without a text, or where the model gives no number; CatalogueError where a text is
    too long for the model.
    """
    _check(frames, candidates)
    directions = np.stack([triage.direction(candidate.prompts) for candidate in candidates]).astype(np.float64)
    shares = softmax(triage.scale * triage.embed(frames).astype(np.float64) @ directions.T)  # (frames, candidates)
    if not np.isfinite(shares).all():
        raise ValueError("the model gave no number for this picture")
    mean = shares.mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    ranked = tuple(Answer(candidates[index].answer, float(mean[index])) for index in order)
    deciding = int(shares[:, order[0]].argmax())
    words = "the only image" if len(frames) == 1 else f"mean of all {len(frames)} images"
    return Answers(ranked, frames[deciding].source, words)


def candidates_from(answers: Sequence[str], template: str = "{}") -> tuple[Candidate, ...]:
    """Answers as candidates, each its own text in ``template``, which holds one ``{}``."""
    return tuple(Candidate(given, (template.replace("{}", given),)) for given in answers)


def yes_or_no(statement: str, denial: str) -> tuple[Candidate, Candidate]:
    """A yes-or-no question: a text that says it is so, and one that says it is not; a model cannot negate by itself."""
    return Candidate("yes", (statement,)), Candidate("no", (denial,))


def _check(frames: Sequence[Frame], candidates: Sequence[Candidate]) -> None:
    if not frames:
        raise ValueError("a question needs a picture")
    given = [candidate.answer for candidate in candidates]
    if len(given) < 2:
        raise ValueError("a closed question needs at least two answers to choose from")
    if twice := [name for name in dict.fromkeys(given) if given.count(name) > 1]:
        raise ValueError(f"the answer {twice[0]!r} is given twice")
    if empty := [candidate.answer for candidate in candidates if not any(prompt.strip() for prompt in candidate.prompts)]:
        raise ValueError(f"the answer {empty[0]!r} has no text to compare the picture with")
