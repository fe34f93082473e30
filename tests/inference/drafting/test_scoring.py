"""Candidate scores against teacher forcing of each candidate by itself, with masks from brute force."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inference.drafting import scoring
from inference.drafting.model import BOS, EOS, Encoded, Ofa
from inference.drafting.scoring import score_candidates
from inference.drafting.trie import Trie

CANDIDATES = [[5], [5, 6], [5, 6, 7], [8, 9, 10, 11], [8, 9, 12], [6]]
PREFIXES = {
    "no prompt": [[], [], []],
    "a prompt": [[7, 5, 9], [8, 8, 8], [5, 6, 7]],
    "a prompt that ends": [[7, 5, EOS], [7, EOS], [9, EOS]],
    "prompts of different lengths": [[7, 5, 9, 9], [], [8]],
}
LISTS = {
    "of many tokens": CANDIDATES,
    "of one token each": [[5], [9], [6]],
    "of one certain end": [[5, 7, 7], [9, 8], [6]],
    "of one": [[5, 6]],
}


@pytest.fixture
def encoded(tiny_model: Ofa) -> Encoded:
    torch.manual_seed(3)
    return tiny_model.encode(torch.tensor([[0, 5, 6, 2], [0, 9, 2, 1], [0, 7, 8, 2]]), torch.randn(3, 3, 64, 64))


def one_by_one(model: Ofa, encoded: Encoded, prefixes: list[list[int]], sequences: list[list[int]]) -> Tensor:
    """Each image and each candidate by itself."""
    ended = [[*sequence, EOS] for sequence in sequences]
    totals = torch.zeros(len(prefixes), len(ended))
    for image, prefix in enumerate(prefixes):
        alone = replace(encoded, out=encoded.out[image : image + 1], padding=encoded.padding[image : image + 1])
        for place, sequence in enumerate(ended):
            target = torch.tensor([[BOS, *prefix, *sequence[:-1]]])
            logits = model.decode(target, model.decoder.begin(alone, target.shape[1]))[0, len(prefix) :]
            for i, token in enumerate(sequence):
                may = sorted({other[i] for other in ended if other[:i] == sequence[:i] and len(other) > i})
                totals[image, place] += logits[i, may].log_softmax(0)[may.index(token)]
    return totals


@pytest.mark.parametrize("candidates", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("prefixes", PREFIXES.values(), ids=PREFIXES)
def test_scores_equal_those_of_each_candidate_by_itself(
    tiny_model: Ofa, encoded: Encoded, prefixes: list[list[int]], candidates: list[list[int]]
) -> None:
    found = score_candidates(tiny_model, encoded, prefixes, Trie(candidates, tiny_model.config.vocabulary))
    torch.testing.assert_close(found, one_by_one(tiny_model, encoded, prefixes, candidates), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(3), atol=1e-5, rtol=0)


def test_batches_of_any_size_give_the_same(tiny_model: Ofa, encoded: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    trie = Trie(CANDIDATES, tiny_model.config.vocabulary)
    whole = score_candidates(tiny_model, encoded, [[9]] * 3, trie)
    monkeypatch.setattr(scoring, "ROWS", 1)
    torch.testing.assert_close(score_candidates(tiny_model, encoded, [[9]] * 3, trie), whole, atol=1e-5, rtol=1e-5)


def test_order_of_candidates_is_kept(tiny_model: Ofa, encoded: Encoded) -> None:
    order, prefixes, words = [3, 0, 5, 1, 4, 2], [[]] * 3, tiny_model.config.vocabulary
    whole = score_candidates(tiny_model, encoded, prefixes, Trie(CANDIDATES, words))
    other = score_candidates(tiny_model, encoded, prefixes, Trie([CANDIDATES[i] for i in order], words))
    torch.testing.assert_close(other, whole[:, order], atol=1e-6, rtol=1e-6)
