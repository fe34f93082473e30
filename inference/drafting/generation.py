"""Beam search as the reference does it (fairseq's SequenceGenerator), so that published settings give published text.

A sentence ends as soon as ``beam`` hypotheses ended, even if a longer one that is still alive would score better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from inference.drafting.layers import MASKED
from inference.drafting.model import BOS, EOS, PAD, UNKNOWN, DecoderState, Encoded, Ofa

CANDIDATES_PER_BEAM: Final = 2  # should half of them end, a full beam goes on


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How to search. Lengths count tokens without bos and eos.

    ``length_penalty``: the score is the sum of log-probabilities / (tokens + 1)^penalty; ``normalise`` False leaves the sum.
    ``min_length`` does not apply while prefix tokens remain. ``no_repeat_ngram`` 0 forbids nothing.
    """

    beam: int = 5
    max_length: int = 200
    min_length: int = 1
    no_repeat_ngram: int = 0
    length_penalty: float = 1.0
    normalise: bool = True
    temperature: float = 1.0
    unknown_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.beam < 1 or self.max_length < 1 or not 0 <= self.min_length <= self.max_length:
            raise ValueError("a search needs beam ≥ 1, max_length ≥ 1 and min_length in 0..max_length")
        if self.temperature <= 0 or self.no_repeat_ngram < 0:
            raise ValueError("a search needs temperature > 0 and no_repeat_ngram ≥ 0")


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """``tokens`` without bos, with eos; one log-probability (≤ 0) per token."""

    tokens: tuple[int, ...]
    score: float
    log_probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    scores: Tensor  # (B, 2·beam) sum of log-probabilities, best first
    tokens: Tensor  # (B, 2·beam)
    rows: Tensor  # (B, 2·beam) the beam row each goes on from, in 0..N


@torch.inference_mode()
def generate(
    model: Ofa, encoded: Encoded, settings: GenerationSettings, prefix: Tensor | None = None
) -> list[list[Hypothesis]]:
    """The ``beam`` best hypotheses per image, best first.

    ``prefix``: int64 (B, P) padded at the end with 1; each hypothesis begins with its row's prefix.
    """
    return _Search(model, encoded, settings, prefix).run()


class _Search:
    """One search over a batch. Images leave the batch as they finish."""

    def __init__(self, model: Ofa, encoded: Encoded, settings: GenerationSettings, prefix: Tensor | None) -> None:
        images, device = encoded.out.shape[0], encoded.out.device
        self.model, self.settings, self.prefix = model, settings, prefix
        self.state: DecoderState = model.decoder.begin(encoded, settings.max_length + 1)
        self.tokens = torch.full((images, 1), BOS, device=device)  # (N, step + 1); one row per image until the first choice
        self.scores = torch.zeros((images, 0), device=device)  # (N, step) running sums
        self.alive = list(range(images))  # which images the batch still holds, by their place in the input
        self.ended: list[list[Hypothesis]] = [[] for _ in range(images)]

    def run(self) -> list[list[Hypothesis]]:
        for step in range(self.settings.max_length + 1):
            candidates = self._candidates(self._log_probabilities(step))
            self._end(step, candidates)
            candidates = self._drop_finished(step, candidates)
            if not self.alive:
                break
            self._go_on(candidates)
        return [sorted(hypotheses, key=lambda h: -h.score) for hypotheses in self.ended]

    def _log_probabilities(self, step: int) -> Tensor:
        """Of each next token, with the forbidden ones at -inf: float32 (N, V)."""
        settings = self.settings
        logits = self.model.decode(self.tokens[:, -1:], self.state)[:, -1].float()  # (N, V)
        logs = torch.log_softmax(logits / settings.temperature, dim=-1)
        if self.prefix is not None and step < min(self.prefix.shape[1], settings.max_length):
            _force(logs, self.prefix[:, step])
        elif step < settings.min_length:
            logs[:, EOS] = MASKED
        logs = torch.where(logs.isnan(), MASKED, logs)
        logs[:, PAD] = MASKED
        logs[:, UNKNOWN] -= settings.unknown_penalty
        if step >= settings.max_length:
            logs[:, :EOS] = MASKED
            logs[:, EOS + 1 :] = MASKED
        if settings.no_repeat_ngram:
            _forbid_repeats(logs, self.tokens, settings.no_repeat_ngram)
        return logs

    def _candidates(self, logs: Tensor) -> _Candidates:
        images, vocabulary = len(self.alive), logs.shape[1]
        if self.scores.shape[1]:
            logs = logs + self.scores[:, -1:]
        flat = logs.view(images, -1)  # (N, V) -> (B, beam·V)
        count = min(CANDIDATES_PER_BEAM * self.settings.beam, flat.shape[1] - 1)
        scores, choice = flat.topk(count, dim=1)  # (B, 2·beam)
        first = torch.arange(images, device=flat.device)[:, None] * (logs.shape[0] // images)
        return _Candidates(scores, choice % vocabulary, choice // vocabulary + first)

    def _end(self, step: int, candidates: _Candidates) -> None:
        """Collect the hypotheses that end among the best ``beam`` candidates."""
        best = slice(0, self.settings.beam)
        ends = (candidates.tokens[:, best] == EOS) & (candidates.scores[:, best] != MASKED)
        for image, place in ends.nonzero().tolist():
            ended = self.ended[self.alive[image]]
            if len(ended) < self.settings.beam:
                ended.append(self._hypothesis(step, int(candidates.rows[image, place]), candidates.scores[image, place]))

    def _hypothesis(self, step: int, row: int, total: Tensor) -> Hypothesis:
        sums = torch.cat([self.scores[row], total[None]])  # (step + 1,)
        each = torch.diff(sums, prepend=sums.new_zeros(1))
        score = total / (step + 1) ** self.settings.length_penalty if self.settings.normalise else total
        return Hypothesis((*self.tokens[row, 1:].tolist(), EOS), float(score), tuple(each.tolist()))

    def _drop_finished(self, step: int, candidates: _Candidates) -> _Candidates:
        """Take the images that are finished out of the batch."""
        last = step == self.settings.max_length
        stay = [i for i, image in enumerate(self.alive) if not last and len(self.ended[image]) < self.settings.beam]
        if len(stay) == len(self.alive):
            return candidates
        images = torch.tensor(stay, dtype=torch.long, device=self.tokens.device)
        self.alive = [self.alive[i] for i in stay]
        self.state.keep(images)
        self.prefix = None if self.prefix is None else self.prefix[images]
        return _Candidates(candidates.scores[images], candidates.tokens[images], candidates.rows[images])

    def _go_on(self, candidates: _Candidates) -> None:
        """Continue the best ``beam`` candidates that do not end."""
        ends = (candidates.tokens == EOS) & (candidates.scores != MASKED)  # (B, 2·beam)
        order = torch.sort(ends.int(), dim=1, stable=True).indices[:, : self.settings.beam]  # (B, beam)
        rows = candidates.rows.gather(1, order).flatten()  # (N,)
        token, score = candidates.tokens.gather(1, order).flatten(), candidates.scores.gather(1, order).flatten()
        self.tokens = torch.cat([self.tokens[rows], token[:, None]], dim=1)  # (N, step + 2)
        self.scores = torch.cat([self.scores[rows], score[:, None]], dim=1)  # (N, step + 1)
        self.state.reorder(rows)


def _force(logs: Tensor, prefix: Tensor) -> None:
    """Leave only the prefix token of each image possible, where its prefix has not run out. ``prefix``: (B,)."""
    wanted = prefix.repeat_interleave(logs.shape[0] // prefix.shape[0])  # (N,)
    forced = wanted != PAD
    kept = logs.gather(1, wanted[:, None])  # (N, 1)
    logs[forced] = torch.full_like(logs[forced], MASKED).scatter(1, wanted[forced, None], kept[forced])


def _forbid_repeats(logs: Tensor, tokens: Tensor, size: int) -> None:
    """Forbid each token that would complete an n-gram its row already holds (bos counts as a token)."""
    if tokens.shape[1] < size:
        return
    grams = tokens.unfold(1, size, 1)  # (N, places, n)
    recent = tokens[:, tokens.shape[1] - size + 1 :]  # (N, n - 1)
    repeats = (grams[:, :, :-1] == recent[:, None]).all(dim=2)  # (N, places)
    rows, places = repeats.nonzero(as_tuple=True)
    logs[rows, grams[rows, places, -1]] = MASKED
