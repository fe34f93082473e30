"""From the probabilities of several images to the one of a study, with the image that decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Rule(StrEnum):
    """How several images become one number."""

    MAX = "max"  # the highest of all images: right where one view may show it alone
    TOP_K_MEAN = "top-k mean"  # of all images: one odd slice does not decide by itself
    PER_SERIES = "per series"  # the k highest of each series, then the highest series: other kernels and windows do not dilute


@dataclass(frozen=True, slots=True)
class Aggregation:
    """``k``: how many images are averaged, 1 or more; of fewer images all are."""

    rule: Rule = Rule.MAX
    k: int = 3


@dataclass(frozen=True, slots=True)
class Aggregated:
    """``probability``: 0..1. ``best``: index of the image that decided, the highest of those averaged.

    ``words``: for a person, "mean of the 3 highest of 16 images of one series".
    """

    probability: float
    best: int
    words: str


def aggregate(column: NDArray[np.float32], series: Sequence[str], how: Aggregation) -> Aggregated:
    """One finding's probabilities over the images, (images,) in 0..1, to one.

    ``series``: which series each image belongs to. Of equals the earliest decides, so that the same study reads the same.
    Raises ValueError where there is no image, the lengths disagree or a probability is no number.
    """
    if not len(column) or len(column) != len(series):
        raise ValueError(f"{len(column)} probabilities for the series of {len(series)} images")
    if not np.isfinite(column).all():
        raise ValueError("a probability is no number")
    groups = _groups(series) if how.rule is Rule.PER_SERIES else [np.arange(len(column))]
    k = 1 if how.rule is Rule.MAX else how.k
    tops = [_highest(column, group, k) for group in groups]
    means = [float(column[top].astype(np.float64).mean()) for top in tops]
    winner = int(np.argmax(means))
    top, size = tops[winner], len(groups[winner])
    return Aggregated(means[winner], int(top[0]), _words(len(top), size, len(groups), how.rule))


def _groups(series: Sequence[str]) -> list[NDArray[np.intp]]:
    """The indices of each series, series in order of first appearance."""
    named = np.array(series, dtype=object)
    return [np.flatnonzero(named == name) for name in dict.fromkeys(series)]


def _highest(column: NDArray[np.float32], group: NDArray[np.intp], k: int) -> NDArray[np.intp]:
    """The indices of the ``k`` highest of a group, highest first, of equals the earliest."""
    return group[np.argsort(-column[group], kind="stable")[:k]]


def _words(averaged: int, size: int, series: int, rule: Rule) -> str:
    if size == 1:
        how = "the only image"
    elif averaged == 1:
        how = f"highest of {size} images"
    else:
        how = f"mean of the {averaged} highest of {size} images" if averaged < size else f"mean of all {size} images"
    if rule is not Rule.PER_SERIES:
        return how
    return f"{how} of one series" if series == 1 else f"{how} of the highest of {series} series"
