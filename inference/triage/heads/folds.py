"""Cross-validation by patient: films of one patient are never on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from inference.triage.heads.measure import Bools, Ints

FOLDS: Final = 5


def patient_folds(labels: Bools, patients: Ints, seed: int, folds: int = FOLDS) -> Ints:
    """The fold of each film, (films,), 0..folds-1.

    Patients are dealt out, those with the finding first, each to the fold that has the fewest films of its kind, so that
    every fold holds about as many films with and without the finding. Equal folds are told apart by the seed alone.
    """
    names, place = np.unique(patients, return_inverse=True)
    positives = np.bincount(place, labels)
    negatives = np.bincount(place, ~labels)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.lexsort((-negatives[shuffled], -positives[shuffled]))]
    held = np.zeros((2, folds))
    chosen = np.zeros(len(names), dtype=np.int64)
    for patient in order:
        kind = 0 if positives[patient] else 1
        fold = int(np.lexsort((held[1 - kind], held[kind]))[0])
        chosen[patient] = fold
        held[:, fold] += (positives[patient], negatives[patient])
    return chosen[place]


def splits(fold: Ints) -> Iterator[tuple[Bools, Bools]]:
    """(learn from, try on) for each fold that holds a film."""
    for one in np.unique(fold):
        yield fold != one, fold == one
