"""Beam search against the reference's hypotheses, and against a search written plainly, without caches or tensors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from inference.drafting.generation import GenerationSettings, generate
from inference.drafting.model import BOS, EOS, PAD, Encoded, Ofa


@pytest.mark.golden_searched
def test_golden_hypotheses(golden_set: Any, golden_name: str, golden_models: Any, golden_settings: Any) -> None:
    case, inputs = golden_set.facts["cases"][golden_name], golden_name.split("/")[0].removesuffix("_sequence_generator")
    prefix = golden_set.given(inputs, "prefix_tokens") if case.get("uses_prefix_tokens") else None
    encoded = golden_models.encode(golden_set, inputs)
    found = generate(golden_models.model(golden_set), encoded, golden_settings(case["generation_args"]), prefix)
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


def plain_search(model: Ofa, encoded: Encoded, settings: GenerationSettings) -> list[tuple[float, tuple[int, ...]]]:
    """One image, lists of tokens, the whole prefix through the model at each step."""
    beams: list[tuple[float, list[int]]] = [(0.0, [BOS])]
    ended: list[tuple[float, tuple[int, ...]]] = []
    for step in range(settings.max_length + 1):
        choices = []
        for total, tokens in beams:
            logs = next_logs(model, encoded, tokens, settings, step)
            choices += [(total + log, [*tokens, token]) for token, log in enumerate(logs)]
        choices.sort(key=lambda choice: -choice[0])
        choices = choices[: 2 * settings.beam]
        for total, tokens in choices[: settings.beam]:
            if tokens[-1] == EOS and total > -math.inf and len(ended) < settings.beam:
                ended.append(
                    (total / (step + 1) ** settings.length_penalty if settings.normalise else total, tuple(tokens[1:]))
                )
        if len(ended) == settings.beam or step == settings.max_length:
            break
        beams = [choice for choice in choices if choice[1][-1] != EOS or choice[0] == -math.inf][: settings.beam]
    return sorted(ended, key=lambda e: -e[0])


def next_logs(model: Ofa, encoded: Encoded, tokens: list[int], settings: GenerationSettings, step: int) -> list[float]:
    target = torch.tensor([tokens])
    logits = model.decode(target, model.decoder.begin(encoded, len(tokens)))[0, -1]
    logs = (logits / settings.temperature).log_softmax(0).tolist()
    logs[3] -= settings.unknown_penalty
    n = settings.no_repeat_ngram
    seen = {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)} if n else set()
    for token in range(len(logs)):
        repeats = n > 0 and (*tokens[len(tokens) - n + 1 :], token) in seen
        late = step == settings.max_length and token != EOS
        early = step < settings.min_length and token == EOS
        if token == PAD or repeats or late or early:
            logs[token] = -math.inf
    return logs
