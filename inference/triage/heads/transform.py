"""From a margin (a logit) to a probability: temperature, Platt or isotonic, as fitted for one finding."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inference.errors import HeadError

Kind = Literal["temperature", "platt", "isotonic"]


@dataclass(frozen=True, slots=True)
class Transform:
    """A rising map from margins to probabilities.

    temperature (Guo 2017, arXiv 1706.04599): sigmoid(slope · margin), the slope being one over the temperature.
    platt (Platt 1999): sigmoid(slope · margin + offset).
    isotonic (Zadrozny 2002): straight lines between ``knots`` (margins, rising) and their ``values`` (probabilities), level
    beyond the ends.
    ``prior``: added to the log odds of the probability, where the films in use show a finding more or less often than the
    labelled ones did (Elkan 2001).
    """

    kind: Kind
    slope: float = 1.0
    offset: float = 0.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    prior: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.slope, self.offset, self.prior, *self.knots, *self.values)
        stairs = self.kind == "isotonic"
        if not np.isfinite(numbers).all() or self.slope <= 0 or stairs != bool(self.knots):
            raise HeadError(f"a {self.kind} transform needs finite numbers, a slope above 0, and knots only for isotonic")
        if len(self.knots) != len(self.values) or any(b <= a for a, b in pairwise(self.knots)):
            raise HeadError("an isotonic transform has one value for each knot, and its knots rise")
        if any(b < a for a, b in pairwise(self.values)) or not all(0 < value < 1 for value in self.values):
            raise HeadError("the values of an isotonic transform lie between 0 and 1 and never fall")

    def __call__(self, margins: ArrayLike) -> NDArray[np.float32]:
        """Probabilities, float32, of the margins' shape, 0..1; no number where the margin is none or not finite."""
        x = np.asarray(margins, dtype=np.float64)
        if self.kind == "isotonic":
            level = np.interp(x, self.knots, self.values)
            odds = np.log(level) - np.log1p(-level)
        else:
            odds = self.slope * x + self.offset
        p: NDArray[np.float32] = np.where(np.isfinite(x), sigmoid(odds + self.prior), np.nan).astype(np.float32)
        return p


def sigmoid(odds: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) without overflow."""
    x = np.asarray(odds, dtype=np.float64)
    small = np.exp(-np.abs(x))
    p: NDArray[np.float64] = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return p
