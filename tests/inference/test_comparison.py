"""Two models compared: counts by hand, scipy's rank correlation and scikit-learn's kappa and area as oracles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from inference.comparison import UNKNOWN, Compared, compare
from inference.reading import Code, Decision, Finding, Urgency

CODE = Code("36118008", "SCT", "Pneumothorax")


def finding(key: str, probability: float | None) -> Finding:
    if probability is None:
        return Finding(key, CODE, None, Urgency.STAT, 0.5, Decision.NOT_ASSESSABLE, reason="out of scope")
    decision = Decision.POSITIVE if probability >= 0.5 else Decision.NEGATIVE
    return Finding(key, CODE, None, Urgency.STAT, 0.5, decision, probability)


def one(a: Sequence[float | None], b: Sequence[float | None], truth: Sequence[int] | None = None) -> Compared:
    known = {"k": np.array(truth, np.int8)} if truth else None
    studies = [f"study {number}" for number in range(len(a))]
    (compared,) = compare(studies, [(finding("k", p),) for p in a], [(finding("k", q),) for q in b], known)
    return compared


def test_counts_and_flips() -> None:
    said = one([0.9, 0.8, 0.2, 0.1, None, 0.7], [0.8, 0.4, 0.3, 0.6, 0.9, None], [1, 1, 0, 0, 1, UNKNOWN])
    assert (said.studies, said.both, said.positive_a, said.positive_b, said.labelled) == (6, 4, 2, 2, 4)
    assert said.agreement == 0.5
    assert said.kappa == 0.0
    assert said.mean_shift == pytest.approx((-0.1 - 0.4 + 0.1 + 0.5) / 4)
    assert (said.auc_a, said.auc_b) == (1.0, 0.75)
    assert [flip.study for flip in said.flips] == ["study 1", "study 3", "study 4", "study 5"]
    assert said.flips[2].a.probability is None
    assert said.flips[2].b.decision is Decision.POSITIVE


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from((0, 1, UNKNOWN))), min_size=3, max_size=25)
)
def test_figures_agree_with_the_oracles(pairs: list[tuple[int, int, int]]) -> None:
    p, q = (np.array([pair[side] / 20 for pair in pairs]) for side in (0, 1))
    truth = np.array([pair[2] for pair in pairs])
    said = one([*map(float, p)], [*map(float, q)], [*map(int, truth)])
    if np.ptp(p) and np.ptp(q):
        assert said.correlation == pytest.approx(spearmanr(p, q).statistic, abs=1e-9)
    else:
        assert said.correlation is None
    yes, oui = p >= 0.5, q >= 0.5
    if len({*yes, *oui}) == 2:
        assert said.kappa == pytest.approx(cohen_kappa_score(yes, oui), abs=1e-9)
    known = truth != UNKNOWN
    if len({*truth[known]}) == 2:
        assert said.auc_a == pytest.approx(roc_auc_score(truth[known], p[known]))
        assert said.auc_b == pytest.approx(roc_auc_score(truth[known], q[known]))
    else:
        assert said.auc_a is None
        assert said.auc_b is None


def test_what_has_no_value_says_so() -> None:
    none = one([None, None], [0.1, 0.2])
    assert (none.both, none.agreement, none.kappa, none.correlation, none.mean_shift, none.auc_a) == (0,) + (None,) * 5
    assert compare([], [], []) == ()


def test_other_findings_are_refused() -> None:
    a, b = [(finding("k", 0.1),)], [(finding("other", 0.1),)]
    with pytest.raises(ValueError, match="different findings"):
        compare(["s"], a, b)
    with pytest.raises(ValueError, match="1 studies, but findings of 1 and 0"):
        compare(["s"], a, [])
