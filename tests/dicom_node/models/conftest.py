"""A hub on the loopback that holds small models of the real forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference.bundles import open_bundle
from inference.drafting.config import read_config
from inference.drafting.drafter import load_model
from inference.drafting.tokenizer import read_bpe
from inference.phantoms import bundle_folder
from tests.dicom_node.models.hub_server import Hub, Repo, serving
from tests.inference.drafting.forms import save_hf, write_hf_tokenizer

BIOMEDCLIP = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
BERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
BIOMEDGPT = "PanaceaAI/BiomedGPT-Base-Pretrained"
COMMIT = "c0ffee" + 34 * "1"


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Files by repository: what the hub's three hold that a pull needs, and some that it must leave."""
    gpt = tmp_path_factory.mktemp("gpt")
    _biomedgpt(gpt)
    clip = _biomedclip(tmp_path_factory.mktemp("clip"))
    bert = {name: clip.pop(name) for name in ("config.json",)} | {"vocab.txt": clip["vocab.txt"], "flax_model.msgpack": b"big"}
    return {BIOMEDCLIP: clip, BERT: bert, BIOMEDGPT: _contents(gpt)}


@pytest.fixture
def hub(repositories: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from dicom_node.models_known import MODELS

    pinned = {r.name: r.commit for model in MODELS.values() for r in model.repositories() if r.commit}
    repos = {name: Repo(pinned.get(name, COMMIT), dict(files)) for name, files in repositories.items()}
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(Hub(repos)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


def _biomedgpt(folder: Path) -> None:
    """The shipped phantom in HF form."""
    bundle = open_bundle(bundle_folder("biomedgpt"))
    config = read_config(bundle.path("config.json"))
    save_hf(load_model(bundle, config), folder, codes=config.codes, bins=config.bins)
    write_hf_tokenizer(read_bpe(bundle.folder), folder)
    (folder / "README.md").write_text("read me")


def _biomedclip(folder: Path) -> dict[str, bytes]:
    """The shipped phantom as the hub holds the real one: pickled weights, the text tower's configuration elsewhere."""
    shipped = bundle_folder("biomedclip")
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
    files = {name: (shipped / name).read_bytes() for name in names}
    config = json.loads((shipped / "open_clip_config.json").read_text("utf-8"))
    files["open_clip_config.json"] = json.dumps(config).encode()
    torch.save(load_file(shipped / "open_clip_model.safetensors"), folder / "weights.bin")
    return files | {"open_clip_pytorch_model.bin": (folder / "weights.bin").read_bytes(), "figure.png": b"big"}


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
