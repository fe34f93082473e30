"""Teacher forcing of the phantom BiomedGPT: captions with a second head that says which patches show what, then all tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from inference.drafting.model import BOS, EOS, PAD, Encoded, Ofa
from inference.drafting.results import DecoderPrompt
from inference.drafting.tokenizer import Tokenizer
from inference.phantoms.lesions import KEYS
from inference.phantoms.lessons import Lesson, caption_lesson, film_lesson, inference_lesson, summary_lesson

BATCH: Final = 16
QUESTIONS: Final = 2  # of each film of a batch, beside its caption
PAIRS: Final = 48  # of text in a batch
SUMMARIES: Final = 32
LEARNING_RATE: Final = 1.5e-3
AUXILIARY_WEIGHT: Final = 0.5
QUESTION_WEIGHT: Final = 1.0
TEXT_WEIGHT: Final = 0.7
RARE: Final = 4.0  # weight of a patch that shows a finding against one that does not


@dataclass(frozen=True, slots=True, eq=False)
class Films:
    """Films as the model sees them, with their words. ``images``: uint8 (n, side, side)."""

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    places: Tensor  # uint8 (n, patches, len(KEYS)), 1 in each patch that shows the finding


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Lessons as ids, padded at the end with 1. ``allowed``: where the loss is taken among some tokens only, else None."""

    source: Tensor  # (N, S)
    given: Tensor  # (N, T) what the decoder is given, from bos on
    target: Tensor  # (N, T) what it must say, PAD where nothing is asked
    allowed: Tensor | None  # bool (N, T, V)


class Trainer:
    """``model`` learns from ``films`` and from texts made as it goes."""

    def __init__(self, model: Ofa, tokenizer: Tokenizer, films: Films, rng: np.random.Generator) -> None:
        self.model, self.films, self.rng, self.tokenizer = model, films, rng, tokenizer
        self.head = nn.Linear(model.config.width, len(KEYS))
        parameters = [*model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.02, fused=True)

    def run(self, epochs: float, *, seconds: float, rate: float = 1.0, tasks: bool = True) -> None:
        """Train for ``epochs``, or until ``seconds`` of processor time are used. ``rate``: of LEARNING_RATE.

        ``tasks``: captions, questions and texts; without: captions alone, from which a new model learns to see.
        """
        start, steps = time.process_time(), int(epochs * len(self.films.images) / BATCH)
        self.model.train()
        for step in range(steps):
            progress = max(step / steps, (time.process_time() - start) / seconds)
            if progress >= 1:
                break
            warm = min(1.0, (step + 1) / 100)
            for group in self.optimizer.param_groups:
                group["lr"] = LEARNING_RATE * rate * warm * (0.5 + 0.5 * float(np.cos(np.pi * progress)))
            losses = self._step(torch.from_numpy(self.rng.integers(0, len(self.films.images), BATCH)), tasks)
            if step % 50 == 0:
                words = "  ".join(f"{name} {float(loss.detach()):.3f}" for name, loss in losses.items())
                print(f"{progress:4.0%} {time.process_time() - start:5.0f} s  {words}", flush=True)
        self.model.eval()

    def _step(self, rows: Tensor, tasks: bool) -> dict[str, Tensor]:
        losses = self._film_losses(rows, QUESTIONS if tasks else 0)
        if tasks:
            losses |= {"nli": self._text_loss(inference_lesson, PAIRS), "summary": self._text_loss(summary_lesson, SUMMARIES)}
        weights = {"findings": AUXILIARY_WEIGHT, "questions": QUESTION_WEIGHT, "nli": TEXT_WEIGHT, "summary": TEXT_WEIGHT}
        total = sum((loss * weights.get(name, 1.0) for name, loss in losses.items()), torch.zeros(()))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return losses

    def _film_losses(self, rows: Tensor, questions: int) -> dict[str, Tensor]:
        """Captions and questions of the same films, which pass through the image front once."""
        captions = [self.films.captions[i] for i in rows.tolist()]
        lessons = [[caption_lesson(text), *(film_lesson(text, self.rng) for _ in range(questions))] for text in captions]
        batch = self._collate([lesson for film in lessons for lesson in film])
        images = augmented(self.films.images[rows.numpy()], self.rng)  # (B, 3, side, side)
        each = 1 + questions
        spread = images[:, None].expand(-1, each, -1, -1, -1).flatten(0, 1)  # (N, 3, side, side), film by film
        with _once_per_film(self.model, each):
            encoded = self.model.encode(batch.source, spread)
        first = torch.arange(0, len(batch.source), each)
        seen = self.head(encoded.out[first, : -batch.source.shape[1]])  # (B, patches, findings)
        losses = {
            "caption": self._loss(encoded, batch, first),
            "findings": _finding_loss(seen, self.films.places[rows].float()),
        }
        if questions:
            others = torch.tensor([row for row in range(len(batch.source)) if row % each])
            losses["questions"] = self._loss(encoded, batch, others)
        return losses

    def _text_loss(self, make: Callable[[np.random.Generator], Lesson], count: int) -> Tensor:
        batch = self._collate([make(self.rng) for _ in range(count)])
        encoded = self.model.encode(batch.source)
        return self._loss(encoded, batch, torch.arange(count))

    def _loss(self, encoded: Encoded, batch: Batch, rows: Tensor) -> Tensor:
        """Cross entropy of some rows, no further than their longest target."""
        target = batch.target[rows]
        length = int((target != PAD).any(0).nonzero().max()) + 1
        target, given = target[:, :length], batch.given[rows, :length]  # (n, T)
        mine = Encoded(encoded.out[rows], encoded.padding[rows], encoded.positions)
        logits = self.model.decode(given, self.model.decoder.begin(mine, length))  # (n, T, V)
        if batch.allowed is not None:
            logits = logits.masked_fill(~batch.allowed[rows, :length], -1e4)
        return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)

    def _collate(self, lessons: Sequence[Lesson]) -> Batch:
        sources = [[BOS, *self.tokenizer.encode(lesson.source), EOS] for lesson in lessons]
        answers = [[*self.tokenizer.encode(" " + lesson.answer), EOS] for lesson in lessons]
        begins = [_begin(source, lesson.prefix) for source, lesson in zip(sources, lessons, strict=True)]
        pairs = list(zip(begins, answers, strict=True))
        given = pad([begin + answer[:-1] for begin, answer in pairs])
        target = pad([[PAD] * (len(begin) - 1) + answer for begin, answer in pairs])
        return Batch(pad(sources), given, target, self._allowed(lessons, target))

    def _allowed(self, lessons: Sequence[Lesson], target: Tensor) -> Tensor | None:
        if not any(lesson.labels for lesson in lessons):
            return None
        allowed = torch.ones(*target.shape, self.model.config.vocabulary, dtype=torch.bool)
        for row, lesson in enumerate(lessons):
            if lesson.labels:
                texts = [[*self.tokenizer.encode(" " + label), EOS] for label in lesson.labels]
                answer = [token for token in target[row].tolist() if token != PAD]
                for place in range(len(answer)):
                    going_on = [text[place] for text in texts if text[:place] == answer[:place]]
                    allowed[row, place] = False
                    allowed[row, place, going_on] = True
        return allowed


@contextmanager
def _once_per_film(model: Ofa, each: int) -> Iterator[None]:
    """Within, ``each`` rows that follow one another are one film, and it passes through the image front once."""
    front = model.encoder.embed_images
    before = front.register_forward_pre_hook(
        lambda _, inputs: (inputs[0][::each].contiguous(memory_format=torch.channels_last),)
    )
    after = front.register_forward_hook(lambda _, __, patches: patches.repeat_interleave(each, 0))
    try:
        yield
    finally:
        before.remove()
        after.remove()


def _finding_loss(seen: Tensor, places: Tensor) -> Tensor:
    """``seen``: (B, patches, findings) logits, ``places`` the truth."""
    bce: Any = functional.binary_cross_entropy_with_logits
    loss: Tensor = bce(seen, places, pos_weight=torch.tensor(RARE)) + bce(seen.amax(1), places.amax(1))
    return loss


def _begin(source: list[int], prefix: DecoderPrompt) -> list[int]:
    return {DecoderPrompt.NONE: [BOS], DecoderPrompt.SRC: source, DecoderPrompt.PREV_OUTPUT: source[:-1]}[prefix]


def augmented(images: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """Other exposure, grain and centring; never mirrored, sides matter. uint8 (B, side, side) to (B, 3, side, side), -1..1."""
    x = torch.from_numpy(images).float().div(127.5).sub(1)[:, None]  # (B, 1, S, S)
    uniform = torch.from_numpy(rng.uniform(-1, 1, (4, len(images), 1, 1, 1))).float()
    x = x * (1 + 0.15 * uniform[0]) + 0.10 * uniform[1]
    x = x + torch.randn_like(x) * 0.02 * uniform[2].abs()
    down, right = (int(n) for n in rng.integers(-3, 4, 2))
    x = torch.roll(functional.pad(x, (3, 3, 3, 3), mode="replicate"), (down, right), (2, 3))[:, :, 3:-3, 3:-3]
    return x.clamp(-1, 1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def pad(rows: list[list[int]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
