"""The state of a beam search in tensors: one step is a fixed sequence of operations, without Python per hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final, Protocol

import torch
from torch import Tensor

from inference.drafting.beams import Beams, keep
from inference.drafting.hypotheses import Constraint, GenerationSettings, Hypothesis, TokenSet
from inference.drafting.layers import MASKED
from inference.drafting.model import BOS, EOS, PAD, UNKNOWN, Encoded, Ofa
from inference.drafting.selection import best, forbid_repeats, force, log_mass, refine

CANDIDATES_PER_BEAM: Final = 2  # should half of them end, a full beam goes on


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """The best continuations of each image, best first: each (B, candidates)."""

    scores: Tensor  # sums of log-probabilities
    tokens: Tensor
    parents: Tensor  # the beam each goes on from, 0..beam
    ends: Tensor  # bool: a whole hypothesis, whether there is a place for it or not


class Run(Protocol):
    """How the work of a step is done: at once, or by replaying what was recorded of the same work on the same buffers."""

    def __call__(self, key: Hashable, work: Callable[[], None], /) -> None: ...


def at_once(_: Hashable, work: Callable[[], None]) -> None:
    work()


class Search:
    """One search over a batch of B images. Images leave the batch as they finish.

    ``room``: for how many images there is room when so many are left; ``patience``: steps between two looks at who has
    finished, which on a GPU means waiting for it.
    """

    def __init__(
        self,
        model: Ofa,
        encoded: Encoded,
        settings: GenerationSettings,
        prefix: Tensor | None = None,
        constraint: Constraint | None = None,
        *,
        run: Run = at_once,
        room: Callable[[int], int] = int,
        patience: int = 1,
    ) -> None:
        images, device, beam = encoded.out.shape[0], encoded.out.device, settings.beam
        dtype = torch.promote_types(encoded.out.dtype, torch.float32)
        self.settings, self.prefix, self.constraint = settings, None if prefix is None else prefix.clone(), constraint
        self._model, self._run, self._room, self._patience = model, run, room, patience
        self.length = settings.max_length + 1  # positions: bos, then tokens
        self.beams = Beams(model, encoded, self.length, beam)
        self.image = torch.empty(images, dtype=torch.long, device=device)  # which image stands at a place of the batch
        self.tokens = torch.empty((images, beam, self.length), dtype=torch.long, device=device)
        self.sums = torch.empty((images, beam, self.length), dtype=dtype, device=device)  # log-probabilities so far
        self.total = torch.empty((images, beam), dtype=dtype, device=device)  # the last of them
        self.begin = torch.empty(images, dtype=torch.long, device=device)  # where each image's own tokens begin
        self.ended = _Ended(images, beam, self.length, dtype, device)
        self._start(images)

    def _start(self, real: int) -> None:
        self.n = len(self.image)  # images that the batch still holds, at its first places
        torch.arange(self.n, out=self.image)
        self.tokens.fill_(PAD)[:, :, 0] = BOS
        self.total.fill_(MASKED)[:, 0] = 0  # at first all beams are the same: only one counts
        self.begin.fill_(1)
        if self.prefix is not None:
            self.begin += (self.prefix != PAD).sum(1)
        self.ended.clear(real)
        self._written = 1  # positions that hold a token

    def again(self, encoded: Encoded, real: int) -> None:
        """Begin anew in the same buffers, with as many images, of which the first ``real`` count."""
        self.beams.refill(encoded)
        self._start(real)

    def run(self) -> list[list[Hypothesis]]:
        for step in range(self.settings.max_length):
            self._written = step + 1
            early = step < self.settings.min_length
            forced = self._forced(step)
            self._run((self.n, span := self._span(step), early), partial(self._advance, span, early, forced))
            if (step + 1) % self._patience == 0 and self._leave():
                break
        else:
            self._finish()
        return self.ended.hypotheses(self.settings)

    def _span(self, step: int) -> int:
        """How many positions are attended to: what is not written yet is masked, so that buffers are cut anew now and then."""
        grain = 8 if self._run is at_once else 32
        return min(-(-(step + 1) // grain) * grain, self.length)

    def _forced(self, step: int) -> Tensor | None:
        """The prefix token of each image (n,) at this step, padding where its prefix has run out; None where all have."""
        if self.prefix is None or step >= self.prefix.shape[1]:
            return None
        return self.prefix[: self.n, step]

    def _advance(self, span: int, early: bool, forced: Tensor | None) -> None:
        logits = self._logits(span)
        mass = log_mass(logits)  # (N, 1)
        if forced is not None:
            logits = force(logits, forced.repeat_interleave(self.settings.beam))
        elif early:
            logits[:, EOS] = MASKED
        logits[:, PAD] = MASKED
        logits[:, UNKNOWN] -= self.settings.unknown_penalty
        if self.settings.no_repeat_ngram:
            forbid_repeats(logits, self._tokens.flatten(0, 1), self.beams.at, self.settings.no_repeat_ngram)
        candidates = self._candidates(logits, mass)
        self._end(candidates)
        self._go_on(candidates)

    def _finish(self) -> None:
        """At the greatest length only the end may follow."""
        self._written = self.length
        logits = self._logits(self.length)
        total = (logits[:, EOS] - log_mass(logits)[:, 0]).view(self.n, -1) + self.total[: self.n]  # (B, beam)
        scores, parents = total.where(~total.isnan(), MASKED).sort(dim=1, descending=True)
        self._end(_Candidates(scores, torch.full_like(parents, EOS), parents, scores != MASKED))

    @property
    def _tokens(self) -> Tensor:
        return self.tokens[: self.n]

    def _logits(self, span: int) -> Tensor:
        """Of each next token, -inf where the constraint forbids it: (N, V)."""
        last = self._tokens.index_select(2, self.beams.at)[:, :, 0]  # (n, beam)
        features = self.beams.step(last, span)  # (N, d)
        logits = self._constrain(self._model.project(features))
        if self._model.embed_tokens.weight.dtype != features.dtype:
            logits = refine(logits, features, self._model.embed_tokens.weight, CANDIDATES_PER_BEAM * self._few)
        return logits if self.settings.temperature == 1 else logits / self.settings.temperature

    def _constrain(self, logits: Tensor) -> Tensor:
        if self.constraint is None:
            return logits
        if self.prefix is None and isinstance(self.constraint, TokenSet):
            return logits.add_(self.constraint.bias)
        begin = self.begin[: self.n].repeat_interleave(self.settings.beam)  # (N,)
        return logits.masked_fill(~self.constraint.allowed(self._tokens[:, :, : self._written].flatten(0, 1), begin), MASKED)

    @property
    def _few(self) -> int:
        """How many continuations of a beam can come into question."""
        return 1 if self.settings.beam == 1 else CANDIDATES_PER_BEAM * self.settings.beam

    def _candidates(self, logits: Tensor, mass: Tensor) -> _Candidates:
        """``mass``: (N, 1) log of the sum that makes probabilities of the logits (N, V)."""
        highest, tokens = best(logits, min(self._few, logits.shape[1]))  # each (N, few)
        sums = highest - mass + self.total[: self.n].view(-1, 1)
        flat = sums.where(~sums.isnan(), MASKED).view(self.n, -1)  # (N, few) -> (B, beam · few)
        scores, choice = flat.topk(self._few, dim=1)
        chosen = tokens.view(self.n, -1).gather(1, choice)
        parents = choice.div(tokens.shape[1], rounding_mode="floor")
        return _Candidates(scores, chosen, parents, (chosen == EOS) & (scores != MASKED))

    def _end(self, candidates: _Candidates) -> None:
        """Collect the hypotheses that end among the best ``beam`` candidates."""
        best_ones = slice(0, self.settings.beam)
        ends, parents = candidates.ends[:, best_ones], candidates.parents[:, best_ones]
        if ends.device.type == "cpu" and not bool(ends.any()):
            return
        rows = parents[:, :, None].expand(-1, -1, self.length)
        sums = self.sums[: self.n].gather(1, rows)
        sums.index_copy_(2, self.beams.at, candidates.scores[:, best_ones, None])
        self.ended.add(self.image[: self.n], ends, self._tokens.gather(1, rows), sums, self.beams.at)

    def _go_on(self, candidates: _Candidates) -> None:
        """Continue the best ``beam`` candidates that do not end."""
        count = candidates.ends.shape[1]
        rank = candidates.ends * count + torch.arange(count, device=candidates.ends.device)
        order = rank.argsort(dim=1)[:, : self.settings.beam]  # (B, beam)
        parents, scores = candidates.parents.gather(1, order), candidates.scores.gather(1, order)
        rows = parents[:, :, None].expand(-1, -1, self.length)
        self._tokens.copy_(self._tokens.gather(1, rows))
        self.sums[: self.n].copy_(self.sums[: self.n].gather(1, rows))
        self.sums[: self.n].index_copy_(2, self.beams.at, scores[:, :, None])
        self.total[: self.n].copy_(scores)
        self.beams.advance(parents)
        self._tokens.index_copy_(2, self.beams.at, candidates.tokens.gather(1, order)[:, :, None])

    def _leave(self) -> bool:
        """Take the images that have finished out of the batch; whether none is left."""
        going = self.ended.going(self.image[: self.n])
        size = self._room(len(going))
        if going and size < self.n:
            self._keep(_order(going, size))
        return not going

    def _keep(self, order: Sequence[int]) -> None:
        self.n = len(order)
        keep((self.image, self.tokens, self.sums, self.total, self.begin), order)
        if self.prefix is not None:
            keep((self.prefix,), order)
        self.beams.keep(order)


class _Ended:
    """Hypotheses that ended, by image and place; one place more of each image takes what is not wanted."""

    def __init__(self, images: int, beam: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        room, self.beam = (images, beam + 1), beam
        self.tokens = torch.zeros((*room, length), dtype=torch.long, device=device)  # bos first, without eos
        self.sums = torch.zeros((*room, length), dtype=dtype, device=device)
        self.lengths = torch.zeros(room, dtype=torch.long, device=device)  # tokens with eos
        self.count = torch.zeros(images, dtype=torch.long, device=device)
        self.real = images

    def clear(self, real: int) -> None:
        """Forget all; images from ``real`` on only fill the batch and have finished before they begin."""
        self.real = real
        self.count.zero_()[real:] = self.beam

    def add(self, image: Tensor, ends: Tensor, tokens: Tensor, sums: Tensor, at: Tensor) -> None:
        """Of images (n,) those rows (n, beam) that end, while there is a place. ``tokens``, ``sums``: (n, beam, length)."""
        place = self.count[image][:, None] + ends.cumsum(1) - 1  # (n, beam)
        place = place.where(ends & (place < self.beam), self.beam)
        where = (image[:, None].expand_as(place), place)
        self.tokens.index_put_(where, tokens)
        self.sums.index_put_(where, sums)
        self.lengths.index_put_(where, (at + 1).expand_as(place))
        self.count.index_copy_(0, image, (self.count[image] + ends.sum(1)).clamp_max(self.beam))

    def going(self, image: Tensor) -> list[int]:
        """Which of the images (n,) want more hypotheses, by their place."""
        places: list[int] = (self.count[image] < self.beam).nonzero().flatten().tolist()
        return places

    def hypotheses(self, settings: GenerationSettings) -> list[list[Hypothesis]]:
        """Of each real image, best first."""
        parts = zip(*(part[: self.real].tolist() for part in (self.count, self.lengths, self.tokens, self.sums)), strict=True)
        found = [list(map(partial(_hypothesis, settings), lengths[:n], tokens, sums)) for n, lengths, tokens, sums in parts]
        return [sorted(hypotheses, key=lambda h: -h.score) for hypotheses in found]


def _hypothesis(settings: GenerationSettings, length: int, tokens: list[int], sums: list[float]) -> Hypothesis:
    each = tuple(after - before for before, after in pairwise([0.0, *sums[:length]]))
    total = sums[length - 1]
    score = total / length**settings.length_penalty if settings.normalise else total
    return Hypothesis((*tokens[1:length], EOS), score, each)


def _order(going: Sequence[int], size: int) -> list[int]:
    """What each of the first ``size`` places holds when only these places go on: itself, or one from further back."""
    back = [place for place in going if place >= size]
    held = set(going)
    return [place if place in held or not back else back.pop() for place in range(size)]
