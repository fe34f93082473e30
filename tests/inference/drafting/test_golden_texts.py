"""What goes into the model, from the texts and images that the golden sets hold."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pytest
import torch

from inference.drafting import tasks
from inference.drafting.config import Preprocess
from inference.drafting.images import prepare
from inference.drafting.metric_texts import fix_tokenization
from inference.drafting.model import BOS, EOS, PAD
from inference.drafting.runtime import padded
from inference.drafting.texts import nli_source, pre_caption, pre_question, question_source
from inference.drafting.tokenizer import Tokenizer
from tests.inference.drafting.golden_cases import CPU, case_prefixes, runtime


@pytest.mark.golden_fairseq
def test_golden_prompts(golden_set: Any, bpe: Tokenizer) -> None:
    """The ids of every prompt, from the texts that the set says were asked."""
    cases = golden_set.facts["cases"]
    texts: dict[str, list[str]] = {}
    for name, case in cases.items():
        if "questions" in case:
            objects = case["objects"] if case.get("add_object") else [""] * len(case["questions"])
            texts[name] = [question_source(q, o) for q, o in zip(case["questions"], objects, strict=True)]
        elif name.startswith("nli"):
            texts[name] = [nli_source(premise, hypothesis) for premise, hypothesis, _ in case["pairs"]]
        elif name == "summary":
            texts[name] = [f' what is the summary of article " {pre_caption(text)} "?' for text, _ in case["pairs"]]
        elif f"{name}/src_tokens" in golden_set.arrays:
            prompt = case.get("prompt", cases["caption"]["prompt"])
            texts[name] = [prompt] * len(golden_set.arrays[f"{name}/src_tokens"])
    recorded = {name.split("/")[0] for name in golden_set.arrays if name.endswith("/src_tokens")}
    assert set(texts) == recorded
    for name, sources in texts.items():
        limit = 512 if name == "summary" else None
        tokens = padded([[BOS, *bpe.encode(text, limit=limit), EOS] for text in sources], CPU)
        assert torch.equal(tokens, golden_set.tensor(f"{name}/src_tokens")), name
        assert (tokens != PAD).sum(1).tolist() == golden_set.arrays[f"{name}/src_lengths"].tolist()


@pytest.mark.golden_fairseq
def test_golden_decoder_prompts(golden_set: Any) -> None:
    for name in [n.split("/")[0] for n in golden_set.arrays if n.endswith("/prefix_tokens")]:
        assert torch.equal(padded(case_prefixes(golden_set, name), CPU), golden_set.tensor(f"{name}/prefix_tokens"))


def test_golden_targets(golden_set: Any, bpe: Tokenizer) -> None:
    """Answers follow their decoder prompt, and targets are what is fed in, one place later."""
    for name in [n.split("/")[0] for n in golden_set.arrays if n.endswith("/target")]:
        given, target = golden_set.tensor(f"{name}/prev_output_tokens"), golden_set.tensor(f"{name}/target")
        shifted = torch.cat([given[:, 1:], torch.full((len(given), 1), PAD)], dim=1)
        both = (shifted != PAD) & (target != PAD)
        assert torch.equal(shifted[both], target[both]), name
        answers = golden_set.facts["cases"][name].get("answers")
        for row, answer in zip(target, answers or [], strict=False):
            assert bpe.decode(row[row != PAD].tolist()) == f" {answer}"


def test_golden_hf_inputs_are_those_of_the_original(golden_set: Any) -> None:
    if not golden_set.is_hf:
        pytest.skip("the original itself")
    for ours, theirs in (("input_ids", "src_tokens"), ("decoder_input_ids", "prev_output_tokens")):
        for name in [n.split("/")[0] for n in golden_set.arrays if n.endswith(f"/{ours}")]:
            assert np.array_equal(golden_set.arrays[f"{name}/{ours}"], golden_set.inputs[f"{name}/{theirs}"])


CLEANING: Final = {
    "pre_question": lambda e: pre_question(e["text"], e["max_words"]),
    "pre_caption": lambda e: pre_caption(e["text"], e["max_words"]),
    "fix_tokenization": lambda e: fix_tokenization(e["text"]),
}


@pytest.mark.parametrize("kind", CLEANING)
def test_golden_cleaning(golden_root: Any, kind: str) -> None:
    examples = json.loads((golden_root / "biomedgpt" / "bpe" / "examples.json").read_text("utf-8"))["examples"]
    rows = [example for example in examples if example["kind"] == kind]
    assert rows
    assert [CLEANING[kind](example) for example in rows] == [example["out"] for example in rows]


@pytest.mark.golden_fairseq
def test_golden_images(golden_set: Any) -> None:
    """Each prepared image is one of the set's images, in the order the case names where it names one."""
    for name in [n.split("/")[0] for n in golden_set.arrays if n.endswith("/patch_images")]:
        case, wanted = golden_set.facts["cases"][name], golden_set.tensor(f"{name}/patch_images")
        settings = Preprocess(wanted.shape[-1], *(tuple(case[k]) for k in ("mean", "std") if k in case))
        assert settings.size == case.get("patch_image_size", settings.size)
        count = sum(n.startswith("images/") for n in golden_set.arrays)
        made = [prepare(golden_set.arrays[f"images/{i}"], settings) for i in range(count)]
        found = [next(i for i, one in enumerate(made) if torch.allclose(one, w, atol=1e-6, rtol=0)) for w in wanted]
        assert found == case.get("images", list(range(len(wanted)))), name


@pytest.mark.golden_fairseq
def test_golden_summary_sources(golden_set: Any, golden_models: Any, bpe: Tokenizer) -> None:
    """A text within the limit is put to the model exactly as the reference puts it."""
    run = runtime(golden_set, golden_models, bpe)
    found = [tasks.summary_ids(run, text) for text, _ in golden_set.facts["cases"]["summary"]["pairs"]]
    assert torch.equal(padded([ids for ids, _ in found], CPU), golden_set.tensor("summary/src_tokens"))
    assert not any(cut for _, cut in found)
