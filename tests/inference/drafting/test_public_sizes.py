"""A model of each published size with random weights: saved in both forms, imported, and run once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.bundles import Bundle, verify_bundle
from inference.drafting.config import Caption, read_config
from inference.drafting.drafter import Drafter, load_model
from inference.drafting.generation import GenerationSettings, generate
from inference.drafting.importing import import_biomedgpt
from inference.drafting.layers import OfaConfig
from inference.drafting.model import Ofa, empty_model
from inference.drafting.tokenizer import BpeFiles, read_bpe, write_bpe
from inference.reading import Frame, FrameSource
from tests.inference.drafting.forms import save_hf, save_original, write_hf_tokenizer

VOCABULARY, SYMBOLS = 59457, 50260
SIZES = {  # width, feed-forward, heads, encoder and decoder layers, blocks of the ResNet; and the published count
    "tiny": (OfaConfig(VOCABULARY, 256, 1024, 4, 4, 4, (3, 4, 6)), 33_488_336),
    "medium": (OfaConfig(VOCABULARY, 512, 2048, 8, 4, 4, (3, 4, 23)), 92_892_000),
    "base": (OfaConfig(VOCABULARY, 768, 3072, 12, 6, 6, (3, 4, 23)), 182_238_536),
    "large": (OfaConfig(VOCABULARY, 1024, 4096, 16, 12, 12, (3, 8, 36)), 472_977_152),
    "huge": (OfaConfig(VOCABULARY, 1280, 5120, 16, 24, 12, (3, 8, 36)), 929_486_848),
}
LARGE = pytest.mark.skipif(not os.environ.get("WETREAD_LARGE"), reason="4 GB of memory and disk: set WETREAD_LARGE=1 to run it")
QUICK = Caption(search=GenerationSettings(beam=2, max_length=3))


@pytest.mark.parametrize("size", SIZES)
def test_the_parameters_are_those_of_the_published_table(size: str) -> None:
    config, published = SIZES[size]
    assert sum(parameter.numel() for parameter in empty_model(config).parameters()) == published


@pytest.fixture(scope="module")
def full_bpe(tokenizer_folder: Path) -> BpeFiles:
    """As many symbols as the published dictionary, of which a text of these tests uses few."""
    files = read_bpe(tokenizer_folder)
    padding = (f"madeupword{i:05}" for i in range(SYMBOLS - len(files.symbols)))
    return replace(files, symbols=(*files.symbols, *padding))


def random_model(config: OfaConfig, seed: int) -> Ofa:
    """Every weight away from its neutral value and exact in half precision; one pool of numbers, laid out anew for each."""
    pool = torch.randn(1_000_003, generator=torch.Generator().manual_seed(seed))
    model = empty_model(config).requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            tensor.zero_()
            continue
        drawn = pool.repeat(1 + tensor.numel() // len(pool))[: tensor.numel()].view(tensor.shape)
        if tensor.dim() > 1:
            drawn = drawn / tensor[0].numel() ** 0.5
        elif name.endswith("running_var"):
            drawn = drawn.abs() + 0.5
        else:
            drawn = 0.1 * drawn + (1.0 if name.endswith("weight") else 0.0)
        tensor.copy_(drawn.half())
    return model


def _imported(tmp_path: Path, model: Ofa, bpe: BpeFiles, size: str) -> Iterator[tuple[str, Bundle]]:
    """Each form as a bundle; what is done with is removed, for the largest are gigabytes."""
    write_bpe(bpe, tmp_path)
    original, hf = tmp_path / f"biomedgpt_{size}.pt", tmp_path / "hf"
    save_original(model, original, image_size=96)
    yield "fairseq", import_biomedgpt(original, tmp_path / "of-original", caption=QUICK)
    original.unlink()
    write_hf_tokenizer(bpe, _made(hf))
    save_hf(model, hf, safe=size != "medium", shards=2 if size == "base" else 1)
    yield "HF", import_biomedgpt(hf, tmp_path / "of-hf", image_size=96, caption=QUICK)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("size", ["tiny", "medium", "base", pytest.param("large", marks=LARGE)])
def test_each_published_size_comes_in_by_both_doors_and_drafts(tmp_path: Path, full_bpe: BpeFiles, size: str) -> None:
    model = random_model(SIZES[size][0], seed=len(size))
    pixels = np.random.default_rng(3).integers(0, 255, (120, 100), np.uint8)
    frame = Frame(pixels, FrameSource("1.2.3", "1.2.840.10008.5.1.4.1.1.1.1", "1.2"), "DX")
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    prompt = torch.tensor([[0, 5, 6, 7, 2]])
    with torch.inference_mode():
        wanted = generate(model, model.encode(prompt, images), QUICK.search)[0]
        for form, bundle in _imported(tmp_path, model, full_bpe, size):
            verify_bundle(bundle)
            config = read_config(bundle.path("config.json"))
            assert config.model == model.config
            loaded = load_model(bundle, config)
            found = generate(loaded, loaded.encode(prompt, images), QUICK.search)[0]
            assert [h.tokens for h in found] == [h.tokens for h in wanted], form
            assert [h.score for h in found] == pytest.approx([h.score for h in wanted], abs=1e-5)
            del loaded
            if form == "HF":  # the node's own path, once
                (draft,) = Drafter.load(bundle, torch.device("cpu")).draft([frame])
                assert draft.sentences or draft.reason
            bundle.path("model.safetensors").unlink()
