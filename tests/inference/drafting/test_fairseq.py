"""Against fairseq itself (`make fairseq`): its dictionary, its loader, and its beam search over our model.

fairseq runs in processes of its own: on import it changes logging and warns. Where it is absent these tests are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.drafting.generation import GenerationSettings, generate
from inference.drafting.tokenizer import Tokenizer
from tests.inference.drafting.conftest import GoldenSet, sets, settings_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fairseq") is None,
    reason="fairseq is not installed (the node does not need it); `make fairseq` installs fairseq-fixed for these tests",
)
INPUTS = ("src_tokens", "patch_images", "patch_masks")
PROGRAM = Path(__file__).with_name("fairseq_oracle.py")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def fairseq_says(golden_root: Path, golden_models: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Its answers on every golden set in its own form."""
    folder, asked = tmp_path_factory.mktemp("fairseq"), {}
    for golden in (golden for golden in sets() if not golden.is_hf):
        inputs = folder / f"{golden}.pt"
        torch.save({name: given for name, (_, given) in _searched(golden)}, inputs)
        paths = {
            "checkpoint": golden_models.checkpoint(golden),
            "bundle": golden_models.bundle(golden).folder,
            "inputs": inputs,
        }
        asked[str(golden)] = {name: str(path) for name, path in paths.items()}
    request = {"dictionary": str(golden_root / "biomedgpt" / "bpe" / "dict.txt"), "sets": asked}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps(request)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_golden_dictionary_is_fairseqs(fairseq_says: dict[str, Any], golden_root: Path) -> None:
    ours = Tokenizer.load(golden_root / "biomedgpt" / "bpe", codes=8192, bins=1000)
    said = fairseq_says["dictionary"]
    assert list(ours.symbols) == said["symbols"]
    assert ours.encode_symbols(said["line"]) == said["ids"]


@pytest.mark.golden_fairseq
def test_golden_checkpoints_load_as_by_fairseq(fairseq_says: dict[str, Any], golden_models: Any, golden_set: GoldenSet) -> None:
    said = fairseq_says["sets"][str(golden_set)]["tensors"]
    assert said["differ"] == []
    assert said["compared"] == said["ours"] + 2  # fairseq keeps the embedding three times
    assert said["width"] == golden_models.model(golden_set).config.width


@pytest.mark.golden_fairseq
def test_golden_inputs_are_searched_as_by_fairseq(
    fairseq_says: dict[str, Any], golden_models: Any, golden_set: GoldenSet
) -> None:
    """Without n-gram blocking, in which fairseq's CPU path differs from the reference; every beam and length setting."""
    said, model = fairseq_says["sets"][str(golden_set)]["search"], golden_models.model(golden_set)
    assert said
    for name, (settings, asked) in _searched(golden_set):
        encoded = model.encode(*(asked["inputs"].get(part) for part in INPUTS))
        found = generate(model, encoded, settings, asked["prefix"])
        assert [[list(h.tokens) for h in image] for image in found] == [[h["tokens"] for h in image] for image in said[name]]
        theirs = [[h["score"] for h in image] for image in said[name]]
        assert [[h.score for h in image] for image in found] == [pytest.approx(image, abs=1e-3) for image in theirs]


def _searched(golden_set: GoldenSet) -> Iterator[tuple[str, tuple[GenerationSettings, dict[str, Any]]]]:
    """Each searched case that a list of answers does not bind: our settings, and what fairseq is given."""
    for name, case in sorted(golden_set.facts["cases"].items()):
        if "hypotheses" not in case or case.get("trie"):
            continue
        of = name.split("/")[0].removesuffix("_sequence_generator")
        settings = replace(settings_of(case["generation_args"]), no_repeat_ngram=0)
        settings = replace(settings, max_length=min(settings.max_length, 12))  # fairseq decodes each prefix anew here
        inputs = {part: found for part in INPUTS if (found := golden_set.given(of, part)) is not None}
        prefix = golden_set.given(of, "prefix_tokens") if case.get("uses_prefix_tokens") else None
        yield name, (settings, {"inputs": inputs, "prefix": prefix, "settings": _in_fairseqs_words(settings)})


def _in_fairseqs_words(settings: GenerationSettings) -> dict[str, Any]:
    return {
        "beam_size": settings.beam,
        "max_len_b": settings.max_length,
        "min_len": settings.min_length,
        "len_penalty": settings.length_penalty,
        "normalize_scores": settings.normalise,
        "temperature": settings.temperature,
        "unk_penalty": settings.unknown_penalty,
    }
