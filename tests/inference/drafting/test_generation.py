"""Beam search against the reference's hypotheses, and against a search written plainly, without caches or tensors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from inference.drafting.generation import GenerationSettings, generate
from inference.drafting.model import EOS, PAD, Encoded, Ofa
from inference.drafting.precision import prepare
from tests.inference.drafting.plain_search import plain_search


@pytest.fixture(scope="module")
def ready_models() -> dict[str, Ofa]:
    """Golden models folded and packed, as the node runs them, by set."""
    return {}


@pytest.mark.golden_searched
def test_golden_hypotheses(
    golden_set: Any, golden_name: str, golden_models: Any, golden_settings: Any, ready_models: dict[str, Ofa]
) -> None:
    case, inputs = golden_set.facts["cases"][golden_name], golden_name.split("/")[0].removesuffix("_sequence_generator")
    prefix = golden_set.given(inputs, "prefix_tokens") if case.get("uses_prefix_tokens") else None
    given = [golden_set.given(inputs, name) for name in ("src_tokens", "patch_images", "patch_masks")]
    model = golden_models.model(golden_set)
    found = generate(model, model.encode(*given), golden_settings(case["generation_args"]), prefix)
    if str(golden_set) not in ready_models:
        ready_models[str(golden_set)] = prepare(copy.deepcopy(model), torch.device("cpu")).model
    ready = ready_models[str(golden_set)]
    fast = generate(ready, ready.encode(*given), golden_settings(case["generation_args"]), prefix)
    assert [[h.tokens for h in row] for row in fast] == [[h.tokens for h in row] for row in found]
    assert len(found) == len(case["hypotheses"])
    for hypotheses, reference in zip(found, case["hypotheses"], strict=True):
        assert [list(h.tokens) for h in hypotheses] == [w["tokens"] for w in reference]
        assert [h.score for h in hypotheses] == pytest.approx([w["score"] for w in reference], abs=1e-3, rel=1e-5)
        for hypothesis, wanted in zip(hypotheses, reference, strict=True):
            if "positional_scores" in wanted:
                assert hypothesis.log_probabilities == pytest.approx(wanted["positional_scores"], abs=1e-3)


SETTINGS = {
    "greedy": GenerationSettings(beam=1, max_length=8),
    "beam 2": GenerationSettings(beam=2, max_length=8),
    "beam 5": GenerationSettings(beam=5, max_length=8),
    "no repeated pair": GenerationSettings(beam=3, max_length=10, no_repeat_ngram=2),
    "no repeated token": GenerationSettings(beam=3, max_length=8, no_repeat_ngram=1),
    "not before four": GenerationSettings(beam=3, max_length=8, min_length=4),
    "short favoured": GenerationSettings(beam=3, max_length=8, length_penalty=0.2),
    "plain sums": GenerationSettings(beam=3, max_length=8, normalise=False),
    "warm, unknown dear": GenerationSettings(beam=3, max_length=8, temperature=2.0, unknown_penalty=5.0),
}


@pytest.fixture
def ending_model(tiny_model: Ofa) -> Ofa:
    """Ends about every fourth token, so that hypotheses end at different steps."""
    tiny_model.embed_tokens.weight[EOS] = tiny_model.embed_tokens.weight[4:12].mean(0) * 2.5
    return tiny_model


@pytest.fixture
def encoded(ending_model: Ofa) -> Encoded:
    torch.manual_seed(3)
    return ending_model.encode(torch.tensor([[0, 5, 6, 2], [0, 9, 2, 1], [0, 7, 8, 2]]), torch.randn(3, 3, 64, 64))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_search_equals_the_plain_search(ending_model: Ofa, encoded: Encoded, settings: GenerationSettings) -> None:
    found = generate(ending_model, encoded, settings)
    for image in range(3):
        one = Encoded(encoded.out[image : image + 1], encoded.padding[image : image + 1], encoded.positions)
        plain = plain_search(ending_model, one, settings)
        assert [h.tokens for h in found[image]] == [tokens for _, tokens in plain]
        assert [h.score for h in found[image]] == pytest.approx([score for score, _ in plain], abs=1e-4)


def test_a_prefix_is_kept_and_scored(ending_model: Ofa, encoded: Encoded) -> None:
    prefix = torch.tensor([[9, 8, 7], [11, PAD, PAD], [6, 5, PAD]])
    settings = GenerationSettings(beam=2, max_length=8)
    for row, hypotheses in zip(prefix, generate(ending_model, encoded, settings, prefix), strict=True):
        wanted = [int(token) for token in row if token != PAD]
        assert all(list(h.tokens[: len(wanted)]) == wanted for h in hypotheses)
        assert all(len(h.log_probabilities) == len(h.tokens) and h.log_probabilities[0] < 0 for h in hypotheses)
