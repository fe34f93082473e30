"""Folds by patient: no patient on both sides, whatever the labels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference.triage.heads.folds import FOLDS, patient_folds, splits

FILMS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=80)


@given(FILMS, st.integers(0, 3), st.integers(2, 6))
def test_no_patient_is_split(films: list[tuple[int, bool]], seed: int, folds: int) -> None:
    patients, labels = np.array([film[0] for film in films]), np.array([film[1] for film in films])
    fold = patient_folds(labels, patients, seed, folds)
    assert ((fold >= 0) & (fold < folds)).all()
    tested = np.zeros(len(films), dtype=int)
    for learn, test in splits(fold):
        assert not set(patients[learn]) & set(patients[test])
        assert (learn ^ test).all()
        tested += test
    assert (tested == 1).all()


@given(FILMS, st.integers(0, 3))
def test_the_same_seed_gives_the_same_folds(films: list[tuple[int, bool]], seed: int) -> None:
    patients, labels = np.array([film[0] for film in films]), np.array([film[1] for film in films])
    np.testing.assert_array_equal(patient_folds(labels, patients, seed), patient_folds(labels, patients, seed))


def test_every_fold_has_its_share_of_both_classes() -> None:
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 120, 300)
    labels = np.isin(patients, rng.choice(120, 24, replace=False))
    fold = patient_folds(labels, patients, 0)
    positives = [int(labels[fold == k].sum()) for k in range(FOLDS)]
    sizes = [int((fold == k).sum()) for k in range(FOLDS)]
    assert max(positives) - min(positives) <= 5
    assert max(sizes) - min(sizes) <= 10
