"""The rest of what the golden sets record, and that nothing they record is left unchecked."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import pytest
import torch

from inference.drafting import positions
from inference.drafting.config import default_tasks
from inference.drafting.model import PAD
from inference.drafting.results import Task
from tests.inference.drafting.conftest import search_cases, sets
from tests.inference.drafting.golden_cases import CLOSE, cases_with, trie_searches


@pytest.mark.golden_fairseq
def test_golden_decoder_features(golden_set: Any, golden_models: Any) -> None:
    model, seen = golden_models.model(golden_set), []
    hook = model.decoder.layer_norm.register_forward_hook(lambda *args: seen.append(args[2]))
    for name in [n.split("/")[0] for n in golden_set.arrays if n.endswith("/decoder_features")]:
        codes, given = name == "code", golden_set.given(name, "prev_output_tokens")
        assert codes == (f"{name}/code_masks" in golden_set.arrays)
        with torch.inference_mode():
            state = model.decoder.begin(golden_models.encode(golden_set, name), given.shape[1], codes=codes)
            model.decode(given, state, codes=codes)
        real = given != PAD
        torch.testing.assert_close(seen.pop()[real], golden_set.tensor(f"{name}/decoder_features")[real], **CLOSE)
    hook.remove()


@pytest.mark.golden_fairseq
def test_golden_bucket_rows(golden_set: Any, golden_models: Any) -> None:
    config = golden_models.model(golden_set).config
    tokens = positions.token_buckets(config.token_bucket, 1024)
    assert torch.equal(tokens[0], golden_set.tensor("buckets/token_rp_bucket_row0"))
    assert torch.equal(tokens[:, 0], golden_set.tensor("buckets/token_rp_bucket_col0"))
    images = positions.image_buckets(config.image_bucket, torch.arange(config.image_bucket**2 + 1))
    rows = golden_set.tensor("buckets/image_rp_bucket_rows")
    assert torch.equal(images[[0, 1, 2, config.image_bucket + 1]], rows)


def test_golden_checkpoint_facts(golden_set: Any, golden_models: Any) -> None:
    """Size, names and shapes of every tensor of the checkpoint, and what it was trained for."""
    facts, path = golden_set.facts, golden_models.checkpoint(golden_set)
    file = path / "pytorch_model.bin" if path.is_dir() else path
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest == facts.get("checkpoint_sha256", facts.get("pytorch_model_bin_sha256"))
    assert file.stat().st_size == facts.get("checkpoint_bytes", file.stat().st_size)
    model = golden_models.model(golden_set)
    assert model.config.vocabulary == facts.get("n_vocab", facts.get("n_tokenizer"))
    if "n_params" in facts:
        assert sum(p.numel() for p in model.parameters()) == facts["n_params"]
    names = {facts.get("name_map", {}).get(name, name): list(p.shape) for name, p in model.named_parameters()}
    shapes = {name: shape for name, (shape, _) in facts["state_dict"].items()}
    embedding = names.pop("embed_tokens.weight")
    assert shapes["encoder.embed_tokens.weight"] == embedding
    assert {name: shapes.get(name) for name in names} == names
    if "saved_task" in facts:
        wanted = {"caption": Task.CAPTION, "vqa_gen": Task.VQA}.get(facts["saved_task"])
        assert wanted in default_tasks(facts["saved_task"]) or wanted is None


# What is recorded, by the test that checks it. A kind of record that is not here fails test_golden_nothing_is_left_unchecked.
ARRAYS: Final = {
    r"images/\d+": "an input: test_golden_images",
    r"buckets/(token_rp_bucket_(row0|col0)|image_rp_bucket_rows)": "test_golden_bucket_rows",
    r"buckets/(token_rp_bucket_row700|decoder_image_position_idx)": "test_model: test_golden_buckets",
    r"\w+/(src_tokens|src_lengths)": "test_golden_prompts",
    r"\w+/(input_ids|decoder_input_ids)": "test_golden_hf_inputs_are_those_of_the_original",
    r"\w+/patch_images": "test_golden_images",
    r"\w+/(patch_masks|code_masks|prev_output_tokens)": "inputs of the forward tests",
    r"\w+/target": "test_golden_targets",
    r"\w+/prefix_tokens": "test_golden_decoder_prompts",
    r"\w+/constraint_masks_allowed_counts": "test_golden_allowed_counts",
    r"\w+/allcand_scores": "test_golden_candidate_scores",
    r"\w+/label_logits": "test_golden_label_logits",
    r"\w+/decoder_features": "test_golden_decoder_features",
    r"\w+/(encoder_out|encoder_last_hidden_state|encoder_padding_mask|position_embeddings)": "test_model",
    r"\w+/(logits_logsumexp|logits_top20_values|logits_top20_ids|logits_full_0|target_logprobs)": "test_model",
    r"caption/((en|de)coder_state_\d+|resnet_out|image_proj)_sample0": "test_model: test_golden_intermediates",
}
CASE_KEYS: Final = {
    "texts patch_image_size mean std images": "test_golden_images, test_golden_targets",
    "prompt questions objects add_object pairs": "test_golden_prompts",
    "prompt_type": "test_golden_decoder_prompts, test_golden_inference_on_pairs",
    "answers": "test_golden_targets",
    "candidates classes allcand_results results": "test_golden_candidate_scores, test_golden_label_logits",
    "labels label_token_ids": "test_golden_label_logits",
    "hypotheses generation_args uses_prefix_tokens trie": "test_generation and test_golden_trie_hypotheses",
    "eval_caption eval_gigaword": "test_golden_texts_of_hypotheses",
    "same_tokens_as_fairseq": "test_golden_hf_search_is_the_originals",
    "kwargs ids text": "test_golden_hf_generate",
    "note": "for people",
    "max_abs_diff_to_fairseq_encoder max_abs_diff_to_fairseq_logsumexp": "of the two references to each other",
}
FACTS: Final = {
    "cases spec versions eos_boost source_checkpoint_set": "what was run, and with what",
    "saved_task n_params n_vocab n_tokenizer state_dict name_map": "test_golden_checkpoint_facts",
    "checkpoint_sha256 checkpoint_bytes pytorch_model_bin_sha256": "test_golden_checkpoint_facts",
    "encoder_token_rp_bucket_sha256_int64 encoder_image_rp_bucket_sha256_int64": "test_model: test_golden_buckets",
    "decoder_token_rp_bucket_sha256_int64 decoder_image_rp_bucket_sha256_int64": "test_model: test_golden_buckets",
    "config fairseq_names_dropped tokenizer_mismatches_vs_fairseq": "of the conversion to HF; test_checkpoints reads it",
}
HYPOTHESIS: Final = {"tokens", "score", "positional_scores", "text", "prefix_len"}
ARGUMENTS: Final = {
    "beam", "max_len_b", "min_len", "no_repeat_ngram_size", "lenpen", "unnormalized", "temperature", "unkpen"
}  # fmt: skip


def words(table: dict[str, str]) -> set[str]:
    return {word for row in table for word in row.split()}


def test_golden_nothing_is_left_unchecked(golden_set: Any) -> None:
    """A set with a record of a new kind, or a case no test runs, fails here."""
    strange = [name for name in golden_set.arrays if not any(re.fullmatch(pattern, name) for pattern in ARRAYS)]
    strange += sorted(set(golden_set.facts) - words(FACTS))
    for name, case in golden_set.facts["cases"].items():
        strange += [f"{name}: {key}" for key in set(case) - words(CASE_KEYS)]
        strange += [f"{name}: {key}" for key in set(case.get("generation_args", {})) - ARGUMENTS]
        for hypothesis in (h for row in case.get("hypotheses", []) for h in row):
            strange += [f"{name}: {key}" for key in set(hypothesis) - HYPOTHESIS]
        recorded = {n for n in golden_set.arrays if n.startswith(f"{name}/")}
        outputs = {"hypotheses", "ids", "allcand_results", "results"} & set(case)
        if not recorded and not outputs:
            strange.append(f"{name}: a case without a result")
    assert strange == []


def test_golden_every_search_is_run(golden_set: Any) -> None:
    searched = {name for name, _ in cases_with(golden_set, "hypotheses")}
    assert searched == {*search_cases(golden_set), *trie_searches(golden_set)}


def test_golden_sets_are_all_walked(golden_root: Any) -> None:
    """Every folder with a golden.json is a set that the tests run, in one form or the other."""
    folders = {path.parent for path in golden_root.rglob("golden.json")}
    assert folders == {found.folder for found in sets()}
