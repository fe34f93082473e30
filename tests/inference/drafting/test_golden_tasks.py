"""Scores of candidates, labels and answers, by the functions of the model and by the tasks the product offers."""

from __future__ import annotations

from typing import Any, Final

import pytest
import torch

from inference.drafting import tasks
from inference.drafting.config import Classification, Nli, Preprocess
from inference.drafting.model import BOS, PAD
from inference.drafting.results import DecoderPrompt, Relation
from inference.drafting.scoring import score_candidates
from inference.drafting.texts import question_source
from inference.drafting.tokenizer import Tokenizer
from tests.inference.drafting.golden_cases import (
    CLOSE,
    SCORES,
    case_prefixes,
    case_trie,
    cases_with,
    frames_of,
    root_case,
    runtime,
)


@pytest.mark.golden_fairseq
def test_golden_allowed_counts(golden_set: Any, bpe: Tokenizer) -> None:
    """How many tokens the reference's tree allows at each place of each target."""
    for name in [n.split("/")[0] for n in golden_set.arrays if n.endswith("/constraint_masks_allowed_counts")]:
        trie, target = case_trie(golden_set, name, bpe), golden_set.tensor(f"{name}/target")
        for row, counts in zip(target, golden_set.arrays[f"{name}/constraint_masks_allowed_counts"], strict=True):
            places = (row != PAD).nonzero()[:, 0].tolist()
            for i, place in enumerate(places):
                rows = torch.tensor([[BOS, *row[places[:i]].tolist()]])
                assert int(trie.allowed(rows, torch.tensor([1])).sum()) == counts[place]


@pytest.mark.golden_fairseq
def test_golden_candidate_scores(golden_set: Any, golden_models: Any, bpe: Tokenizer) -> None:
    for name in [n.split("/")[0] for n in golden_set.arrays if n.endswith("/allcand_scores")]:
        wanted, trie = golden_set.tensor(f"{name}/allcand_scores"), case_trie(golden_set, name, bpe)
        encoded = golden_models.encode(golden_set, root_case(golden_set, name))
        found = score_candidates(golden_models.model(golden_set), encoded, case_prefixes(golden_set, name), trie)
        for scores, reference in zip(found.tolist(), wanted.tolist(), strict=True):
            assert scores == pytest.approx(reference, **SCORES)
        assert found.exp().sum(1).tolist() == pytest.approx([1] * len(found), abs=1e-4)
        case = golden_set.facts["cases"][name]
        texts = golden_set.facts["cases"][root_case(golden_set, name)].get("candidates") or case["classes"]
        answers = [entry["answer"] for entry in case.get("allcand_results") or case["results"]]
        assert [texts[i] for i in wanted.argmax(1).tolist()] == answers


@pytest.mark.golden_fairseq
def test_golden_label_logits(golden_set: Any, golden_models: Any, bpe: Tokenizer) -> None:
    for name in [n.split("/")[0] for n in golden_set.arrays if n.endswith("/label_logits")]:
        case, wanted = golden_set.facts["cases"][name], golden_set.tensor(f"{name}/label_logits")
        assert [bpe.encode(f" {label}") for label in case["labels"]] == [[i] for i in case["label_token_ids"]]
        model, given = golden_models.model(golden_set), golden_set.tensor(f"{name}/prev_output_tokens")
        with torch.inference_mode():
            state = model.decoder.begin(golden_models.encode(golden_set, name), given.shape[1])
            logits = model.decode(given, state)
        last = logits[torch.arange(len(given)), (given != PAD).sum(1) - 1]
        found = last[:, case["label_token_ids"]]
        torch.testing.assert_close(found, wanted, **CLOSE)
        assert [case["labels"][i] for i in found.argmax(1).tolist()] == case["results"]


@pytest.mark.golden_fairseq
def test_golden_classification_of_images(golden_set: Any, golden_models: Any, bpe: Tokenizer) -> None:
    for name, case in cases_with(golden_set, "classes"):
        preprocess = Preprocess(case["patch_image_size"], tuple(case["mean"]), tuple(case["std"]))
        run = runtime(golden_set, golden_models, bpe, preprocess=preprocess, classification=Classification(case["prompt"]))
        choices = tasks.classify(run, frames_of(golden_set, case["images"]), case["classes"])
        assert [choice.best.text for choice in choices] == [entry["answer"] for entry in case["results"]]
        for choice, wanted in zip(choices, golden_set.arrays[f"{name}/allcand_scores"], strict=True):
            assert [score.text for score in choice.scores] == case["classes"]
            assert [score.log_probability for score in choice.scores] == pytest.approx(wanted.tolist(), **SCORES)


WORDS: Final = {"yes": Relation.ENTAILMENT, "no": Relation.CONTRADICTION, "maybe": Relation.NEUTRAL}


@pytest.mark.golden_fairseq
def test_golden_inference_on_pairs(golden_set: Any, golden_models: Any, bpe: Tokenizer) -> None:
    for name, case in cases_with(golden_set, "labels"):
        run = runtime(golden_set, golden_models, bpe, nli=Nli(DecoderPrompt(case["prompt_type"])))
        found = tasks.infer(run, [(premise, hypothesis) for premise, hypothesis, _ in case["pairs"]])
        assert [inference.relation for inference in found] == [WORDS[answer] for answer in case["results"]]
        for inference, row in zip(found, golden_set.tensor(f"{name}/label_logits").softmax(1), strict=True):
            wanted = dict(zip(case["labels"], row.tolist(), strict=True))
            scores = {"yes": inference.entailment, "no": inference.contradiction, "maybe": inference.neutral}
            assert scores == pytest.approx(wanted, abs=1e-4)


@pytest.mark.golden_fairseq
def test_golden_answers_from_a_list(golden_set: Any, golden_models: Any, bpe: Tokenizer) -> None:
    """From images and questions to scored answers."""
    for name, case in cases_with(golden_set, "candidates"):
        run = runtime(golden_set, golden_models, bpe, preprocess=Preprocess(case["patch_image_size"]))
        sources = [run.source(question_source(q, o)) for q, o in zip(case["questions"], case["objects"], strict=True)]
        scorer = tasks.CandidateScorer(run, case["candidates"], DecoderPrompt(case["prompt_type"]), 1.0)
        choices = scorer.score(frames_of(golden_set, case["images"]), sources)
        assert [choice.best.text for choice in choices] == [entry["answer"] for entry in case["allcand_results"]]
        for choice, wanted in zip(choices, golden_set.arrays[f"{name}/allcand_scores"], strict=True):
            assert [score.log_probability for score in choice.scores] == pytest.approx(wanted.tolist(), **SCORES)
            assert sum(score.probability for score in choice.scores) == pytest.approx(1)
