"""What a search is asked, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


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


class Constraint(Protocol):
    """Which tokens may come next: decided before the softmax, so that probabilities are shared among the allowed ones."""

    def allowed(self, tokens: Tensor, begin: Tensor) -> Tensor:
        """bool (N, V), True where a token may follow its row.

        ``tokens``: int64 (N, t), each row so far, bos first, then its prefix. ``begin``: int64 (N,), where the row's own
        tokens begin, 1 + the length of its prefix. A row still inside its prefix (t < begin) allows every token; a row in which
        nothing may follow allows none, and dies.
        """
        ...


class TokenSet:
    """A constraint that allows the same tokens everywhere. ``tokens``: bool (V,), True where a token may be written."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens
        self.bias = torch.zeros(len(tokens), device=tokens.device).masked_fill(~tokens, float("-inf"))  # (V,)

    def allowed(self, tokens: Tensor, begin: Tensor) -> Tensor:
        return self.tokens | (begin > tokens.shape[1])[:, None]  # (N, V)
