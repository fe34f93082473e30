"""Hypotheses and their texts: constrained decoding, the metrics' texts, and transformers' own search over the HF form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from inference.drafting.generation import generate
from inference.drafting.metric_texts import caption_for_metrics, summary_for_metrics
from inference.drafting.model import BOS, EOS
from inference.drafting.tokenizer import Tokenizer
from tests.inference.drafting.conftest import sets
from tests.inference.drafting.golden_cases import SCORES, case_trie, cases_with, joined, root_case, trie_searches, unpadded


def test_golden_trie_hypotheses(golden_set: Any, golden_models: Any, golden_settings: Any, bpe: Tokenizer) -> None:
    """Constrained decoding: tokens, order, scores."""
    for name in trie_searches(golden_set):
        case = golden_set.facts["cases"][name]
        prefix = golden_set.given(root_case(golden_set, name), "prefix_tokens") if case["uses_prefix_tokens"] else None
        encoded, trie = golden_models.encode(golden_set, root_case(golden_set, name)), case_trie(golden_set, name, bpe)
        model = golden_models.model(golden_set)
        found = generate(model, encoded, golden_settings(case["generation_args"]), prefix, trie)
        for hypotheses, reference in zip(found, case["hypotheses"], strict=True):
            assert [list(h.tokens) for h in hypotheses] == [w["tokens"] for w in reference]
            assert [h.score for h in hypotheses] == pytest.approx([w["score"] for w in reference], **SCORES)
            for hypothesis, wanted in zip(hypotheses, reference, strict=True):
                own = hypothesis.log_probabilities[wanted["prefix_len"] :]
                assert own == pytest.approx(wanted["positional_scores"][wanted["prefix_len"] :], abs=1e-3)


def test_golden_texts_of_hypotheses(golden_set: Any, bpe: Tokenizer) -> None:
    for name, case in cases_with(golden_set, "hypotheses"):
        prefixes = (
            [0] * len(case["hypotheses"])
            if not case.get("uses_prefix_tokens")
            else [len(p) for p in unpadded(golden_set.given(root_case(golden_set, name), "prefix_tokens"))]
        )
        for hypotheses, length in zip(case["hypotheses"], prefixes, strict=True):
            for hypothesis in hypotheses:
                assert hypothesis.get("prefix_len", 0) == length
                text = joined(hypothesis["text"]) if golden_set.is_hf else hypothesis["text"]
                assert bpe.decode(hypothesis["tokens"][length:]) == text
        firsts = [bpe.decode(hypotheses[0]["tokens"]) for hypotheses in case["hypotheses"]]
        if "eval_caption" in case:
            assert [caption_for_metrics(text) for text in firsts] == [entry["caption"] for entry in case["eval_caption"]]
        if "eval_gigaword" in case:
            assert [summary_for_metrics(text) for text in firsts] == case["eval_gigaword"]


def test_golden_hf_search_is_the_originals(golden_set: Any) -> None:
    """Where the set says that the HF form found the same hypotheses as fairseq, it holds the same."""
    for name, case in cases_with(golden_set, "same_tokens_as_fairseq"):
        source = next(s for s in sets() if str(s.folder.name) == golden_set.facts["source_checkpoint_set"] and not s.is_hf)
        original = source.facts["cases"][name.replace("_sequence_generator", "")]["hypotheses"]
        assert case["same_tokens_as_fairseq"]
        for ours, theirs in zip(case["hypotheses"], original, strict=True):
            assert [h["tokens"] for h in ours] == [h["tokens"] for h in theirs]


def test_golden_hf_generate(golden_set: Any, golden_models: Any, bpe: Tokenizer) -> None:
    """transformers' own search over our model: the HF form computes the same. Its search is written plainly below."""
    for name, case in cases_with(golden_set, "kwargs"):
        kwargs = {"num_beams": 1, "max_length": 20, "no_repeat_ngram_size": 0} | case["kwargs"]
        assert set(kwargs) == {"num_beams", "max_length", "no_repeat_ngram_size"}, name
        encoded = golden_models.encode(golden_set, "caption")
        for i, ids in enumerate(case["ids"]):
            row = replace(encoded, out=encoded.out[i : i + 1], padding=encoded.padding[i : i + 1])
            assert hf_search(golden_models.model(golden_set), row, kwargs) == ids
            assert bpe.decode(ids) == joined(case["text"][i])


Beam = tuple[float, list[int]]


@torch.inference_mode()
def hf_search(model: Any, encoded: Any, kwargs: dict[str, Any]) -> list[int]:
    """transformers 4.18's search: a hypothesis' score is its sum over its length with bos; eos is forced at the end."""
    size, beams, ended = kwargs["num_beams"], [(0.0, [BOS])], []
    while len(beams[0][1]) < kwargs["max_length"]:
        length, choices = len(beams[0][1]), hf_choices(model, encoded, beams, kwargs)
        if size == 1:
            beams = choices[:1]
            if beams[0][1][-1] == EOS:
                return beams[0][1]
            continue
        ended += [(total / length, tokens) for total, tokens in choices[:size] if tokens[-1] == EOS]
        ended = sorted(ended, key=lambda e: -e[0])[:size]
        if len(ended) == size and ended[-1][0] >= choices[0][0] / length:
            return ended[0][1]
        beams = [choice for choice in choices if choice[1][-1] != EOS][:size]
        if not beams or len(beams[0][1]) == kwargs["max_length"]:
            break
    ended += [(total / len(tokens), tokens) for total, tokens in beams]
    return max(ended, key=lambda e: e[0])[1]


def hf_choices(model: Any, encoded: Any, beams: list[Beam], kwargs: dict[str, Any]) -> list[Beam]:
    """The 2 · num_beams best ways to go on, best first."""
    length, count = len(beams[0][1]), len(beams)
    target = torch.tensor([tokens for _, tokens in beams])
    rows = replace(encoded, out=encoded.out.expand(count, -1, -1), padding=encoded.padding.expand(count, -1))
    logs = model.decode(target, model.decoder.begin(rows, length))[:, -1].log_softmax(1)
    for row, (_, tokens) in zip(logs, beams, strict=True):
        row[repeats(tokens, kwargs["no_repeat_ngram_size"])] = -torch.inf
    if length == kwargs["max_length"] - 1:
        logs[:] = -torch.inf
        logs[:, EOS] = 0
    totals = (logs + torch.tensor([[score] for score, _ in beams])).flatten()
    best = totals.topk(2 * kwargs["num_beams"])
    places = [divmod(place, logs.shape[1]) for place in best.indices.tolist()]
    return [(total, [*beams[beam][1], token]) for total, (beam, token) in zip(best.values.tolist(), places, strict=True)]


def repeats(tokens: list[int], size: int) -> list[int]:
    if not size:
        return []
    recent = tokens[len(tokens) - size + 1 :]
    return [tokens[i + size - 1] for i in range(len(tokens) - size + 1) if tokens[i : i + size - 1] == recent]
