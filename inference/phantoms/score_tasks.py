"""How well a drafter does the tasks beside captions, on films and texts made anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from inference.drafting.drafter import Drafter
from inference.drafting.results import Relation, Task
from inference.phantoms.ct import draw_ct_phantom
from inference.phantoms.draw import draw_phantom
from inference.phantoms.facts import NAMES, facts_of
from inference.phantoms.lessons import inference_pair, summary_pair
from inference.phantoms.questions import KINDS, LABELS, Question, ask, ask_of_slice
from inference.phantoms.statements import Relation as Taught
from inference.reading import Frame, FrameSource

_MEANT = {
    Taught.ENTAILMENT: Relation.ENTAILMENT,
    Taught.CONTRADICTION: Relation.CONTRADICTION,
    Taught.NEUTRAL: Relation.NEUTRAL,
}


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Rates 0..1 of right answers. ``questions``: by kind; a closed one is right when the right choice scores highest.

    ``summaries``: the same impression word for word. ``classified``: the label is one of the findings drawn, or normal.
    """

    questions: dict[str, float]
    classified: float
    inferences: dict[str, float]  # by what was right
    summaries: float | None  # None, as an empty ``inferences``: the bundle does not do it


def score_tasks(drafter: Drafter, seeds: Sequence[int], *, size: int = 256, texts: int = 0) -> TaskScore:
    """Ask one question of each kind about each film of ``seeds``. ``texts``: pairs and summaries, as many as films if 0."""
    frames, captions = _films(seeds, size)
    count = texts or len(seeds)
    return TaskScore(
        questions={kind: _questions(drafter, frames, captions, kind) for kind in KINDS},
        classified=_classified(drafter, frames, captions),
        inferences=_inferences(drafter, count) if Task.NLI in drafter.tasks else {},
        summaries=_summaries(drafter, count) if Task.SUMMARY in drafter.tasks else None,
    )


def frame_of(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], number: int = 1) -> Frame:
    return Frame(pixels, FrameSource(f"2.25.{number}", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.2"), "DX", "CHEST", "PA")


def _films(seeds: Sequence[int], size: int) -> tuple[list[Frame], list[str]]:
    films = [draw_phantom(seed, size=size) for seed in seeds]
    return [frame_of(film.pixels, 1 + i) for i, film in enumerate(films)], [film.caption for film in films]


def _questions(drafter: Drafter, frames: Sequence[Frame], captions: Sequence[str], kind: str) -> float:
    rng = np.random.default_rng(KINDS.index(kind))
    asked = [(frame, ask(facts_of(caption), rng, kind)) for frame, caption in zip(frames, captions, strict=True)]
    if kind == "modality":
        asked += [(frame, ask_of_slice(rng)) for frame in _slices(max(1, len(frames) // 4))]
    return _rate(_right(drafter, asked))


def _right(drafter: Drafter, asked: Sequence[tuple[Frame, Question]]) -> list[bool]:
    """Whether each answer is right; questions with the same choices go together."""
    groups: dict[tuple[str, ...], list[tuple[Frame, Question]]] = {}
    for frame, question in asked:
        groups.setdefault(question.choices, []).append((frame, question))
    right: list[bool] = []
    for choices, members in groups.items():
        frames, texts = [frame for frame, _ in members], [question.text for _, question in members]
        if choices:
            said = [choice.best.text if choice.best else "" for choice in drafter.choose(frames, texts, choices)]
        else:
            said = [answer.text for answer in drafter.ask(frames, texts)]
        right += [text == question.answer for text, (_, question) in zip(said, members, strict=True)]
    return right


def _slices(count: int) -> list[Frame]:
    """CT slices that no training has seen, in a soft-tissue window."""
    planes = (draw_ct_phantom(seed, 1, 128)[0] for seed in range(count))
    return [frame_of((np.clip((plane - 40.0) / 400.0 + 0.5, 0, 1) * 255).astype(np.uint8)) for plane in planes]


def _classified(drafter: Drafter, frames: Sequence[Frame], captions: Sequence[str]) -> float:
    drawn = [{NAMES[fact.key] for fact in facts_of(caption)} or {LABELS[0]} for caption in captions]
    best = [choice.best for choice in drafter.classify(frames, LABELS)]
    return _rate(one is not None and one.text in labels for one, labels in zip(best, drawn, strict=True))


def _inferences(drafter: Drafter, count: int) -> dict[str, float]:
    rng = np.random.default_rng(7)
    pairs = [inference_pair(rng) for _ in range(count)]
    found = drafter.infer([(premise, hypothesis) for premise, hypothesis, _ in pairs])
    hits = [(right, _MEANT[right] is inference.relation) for (_, _, right), inference in zip(pairs, found, strict=True)]
    return {_MEANT[right].value: _rate(hit for what, hit in hits if what is right) for right in Taught}


def _summaries(drafter: Drafter, count: int) -> float:
    rng = np.random.default_rng(8)
    pairs = [summary_pair(rng) for _ in range(count)]
    found = drafter.summarise([text for text, _ in pairs])
    return _rate(summary.text == right for (_, right), summary in zip(pairs, found, strict=True))


def _rate(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found) if found else 1.0
