"""Foreign checkpoints: what is read, what is refused, and that nothing of them runs."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from inference.bundles import open_bundle, verify_bundle
from inference.drafting.checkpoints import EMBEDDINGS, read_checkpoint
from inference.drafting.config import Caption, read_config
from inference.drafting.drafter import load_model
from inference.drafting.importing import import_biomedgpt
from inference.drafting.model import Ofa
from inference.drafting.tokenizer import FILES, Tokenizer, read_bpe
from inference.errors import BundleError
from inference.reading import UseMode
from tests.inference.drafting.forms import HF_NAMES

State = dict[str, Any]
Q = "encoder.layers.0.self_attn.q_proj.weight"


def load(path: Path) -> State:
    with torch.serialization.safe_globals([argparse.Namespace]):
        state: State = torch.load(path, weights_only=True)
    return state


def change(path: Path, edit: Callable[[State], None]) -> Path:
    state = load(path)
    edit(state)
    torch.save(state, path)
    return path


def test_every_tensor_arrives(tiny_checkpoint: Path, tiny_model: Ofa) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    assert checkpoint.config == tiny_model.config
    wanted = tiny_model.state_dict()
    assert checkpoint.tensors.keys() == wanted.keys()
    assert all(torch.equal(tensor.to(wanted[name].dtype), wanted[name]) for name, tensor in checkpoint.tensors.items())


def test_the_moving_average_is_what_counts(tiny_checkpoint: Path) -> None:
    def edit(state: State) -> None:
        state["extra_state"]["ema"] = {name: tensor.clone() for name, tensor in state["model"].items()}
        state["extra_state"]["ema"][Q] += 1

    before = read_checkpoint(tiny_checkpoint).tensors[Q]
    assert torch.equal(read_checkpoint(change(tiny_checkpoint, edit)).tensors[Q], before + 1)


def test_sync_bn_and_imagenet_settings_are_taken_over(tiny_checkpoint: Path) -> None:
    def edit(state: State) -> None:
        state["cfg"]["model"].sync_bn = True
        state["cfg"]["task"]["imagenet_default_mean_and_std"] = True

    checkpoint = read_checkpoint(change(tiny_checkpoint, edit))
    assert checkpoint.config.batch_norm_eps == 1e-3
    assert checkpoint.preprocess.mean == (0.485, 0.456, 0.406)


FAULTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "tensor missing": (lambda s: s["model"].pop(Q), f"missing: {Q}"),
    "tensor unknown": (lambda s: s["model"].update({"encoder.adapter": torch.ones(1)}), "unexpected: encoder.adapter"),
    "tensor of another shape": (lambda s: s["model"].update({Q: torch.ones(2, 2)}), f"of the wrong shape: {Q}"),
    "tensor not finite": (lambda s: s["model"][Q].fill_(float("nan")), f"not finite: {Q}"),
    "number for a tensor": (lambda s: s["model"].update({Q: 3}), "should be tensors"),
    "embeddings not shared": (lambda s: s["model"]["decoder.embed_tokens.weight"].add_(1), "shares one matrix"),
    "no embedding": (lambda s: [s["model"].pop(name) for name in EMBEDDINGS], "incomplete"),
    "other text buckets": (lambda s: s["model"]["encoder.token_rp_bucket"].add_(1), "token_rp_bucket holds other"),
    "other image buckets": (lambda s: s["model"]["decoder.image_rp_bucket"].add_(1), "image_rp_bucket holds other"),
    "other code positions": (lambda s: s["model"]["decoder.image_position_idx"].add_(1), "image_position_idx holds other"),
    "positions added to words": (
        lambda s: setattr(s["cfg"]["model"], "disable_entangle", False),
        "disable_entangle must be on",
    ),
    "scaled residuals": (lambda s: setattr(s["cfg"]["model"], "scale_resids", True), "scale_resids must be off"),
    "another activation": (lambda s: setattr(s["cfg"]["model"], "activation_fn", "relu"), "gelu, not 'relu'"),
    "unlike stacks": (lambda s: setattr(s["cfg"]["model"], "decoder_embed_dim", 8), "embed_dim differ"),
    "an unknown ResNet": (lambda s: delattr(s["cfg"]["model"], "resnet_layers"), "resnet_type 'phantom' is unknown"),
    "no image size": (lambda s: s["cfg"]["task"].pop("patch_image_size"), "patch_image_size"),
    "no configuration": (lambda s: s.pop("cfg"), "not a fairseq checkpoint"),
    "no arguments": (lambda s: s["cfg"].update(model=None), "not a fairseq checkpoint"),
}


@pytest.mark.parametrize(("edit", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_named(tiny_checkpoint: Path, tmp_path: Path, edit: Callable[[State], None], message: str) -> None:
    with pytest.raises(BundleError, match=re.escape(message)):
        import_biomedgpt(change(tiny_checkpoint, edit), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


class Hostile:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip form", "old form"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(tiny_checkpoint: Path, tmp_path: Path, zipped: bool) -> None:
    state = load(tiny_checkpoint)
    torch.save(state | {"args": Hostile(tmp_path / "owned")}, tiny_checkpoint, _use_new_zipfile_serialization=zipped)
    with pytest.raises(BundleError, match="refused, and nothing of it was run"):
        read_checkpoint(tiny_checkpoint)
    assert not (tmp_path / "owned").exists()
    torch.load(tiny_checkpoint, weights_only=False)
    assert (tmp_path / "owned").exists()  # it would have run


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), keep=st.integers(0, 4000))
def test_broken_files_are_refused(tmp_path: Path, whole_checkpoint: bytes, data: bytes, keep: int) -> None:
    """Any bytes, with the beginning of a real checkpoint before them."""
    path = tmp_path / "broken.pt"
    path.write_bytes(whole_checkpoint[:keep] + data)
    with pytest.raises(BundleError):
        read_checkpoint(path)


@pytest.fixture(scope="module")
def whole_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "c.pt"
    torch.save({"model": {"a": torch.ones(3)}}, path)
    return path.read_bytes()


def test_import_writes_a_bundle_that_gives_the_same_model(tiny_checkpoint: Path, tiny_model: Ofa, tmp_path: Path) -> None:
    bundle = import_biomedgpt(tiny_checkpoint, tmp_path / "models" / "gpt")
    verify_bundle(bundle)
    assert bundle == open_bundle(tmp_path / "models" / "gpt", kinds=["biomedgpt"])
    assert {name for name, _ in bundle.files} == {"model.safetensors", "config.json", *FILES}
    assert all((bundle.folder / name).stat().st_mode & 0o044 == 0o044 for name, _ in bundle.files)  # another user may read it
    card = bundle.card
    assert (card.name, card.kind, card.phantom) == ("BiomedGPT", "biomedgpt", False)
    assert card.allowed_modes == (UseMode.RESEARCH, UseMode.SHADOW)
    assert "non-commercial" in card.licence
    assert "sha256" in card.source
    config = read_config(bundle.path("config.json"))
    assert (config.preprocess.size, config.caption) == (64, Caption())
    loaded = load_model(bundle, config)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in tiny_model.state_dict().items())
    assert read_bpe(bundle.folder) == read_bpe(tiny_checkpoint.parent)


def test_an_occupied_folder_is_left_alone(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(BundleError, match="not empty"):
        import_biomedgpt(tiny_checkpoint, out)
    assert (out / "mine").read_text() == "mine"


def test_a_checkpoint_without_tokenizer_says_what_to_give(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tiny_checkpoint.parent / "dict.txt").unlink()
    with pytest.raises(BundleError, match="--bpe"):
        import_biomedgpt(tiny_checkpoint, tmp_path / "out")


def test_another_dictionary_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with (tiny_checkpoint.parent / "dict.txt").open("a") as file:
        file.write("99999 1\n")
    with pytest.raises(BundleError, match="the tokenizer"):
        import_biomedgpt(tiny_checkpoint, tmp_path / "out")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such checkpoint"):
        import_biomedgpt(tmp_path / "nothing.pt", tmp_path / "out")
    with pytest.raises(BundleError, match=r"no model\.safetensors or pytorch_model\.bin"):
        import_biomedgpt(tmp_path, tmp_path / "out")


@pytest.fixture
def hf_folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint in HF form, with HF's two tokenizer files."""
    folder = tmp_path / "hf"
    folder.mkdir()
    tensors = load(tiny_checkpoint)["model"]
    for pattern, name in HF_NAMES.items():
        tensors = {re.sub(pattern, name, old): tensor for old, tensor in tensors.items()}
    torch.save({n: t for n, t in tensors.items() if not n.endswith("version")}, folder / "pytorch_model.bin")
    files = read_bpe(tiny_checkpoint.parent)
    pieces = {str(number): piece for piece, number in files.encoder.items()}
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    vocabulary |= {pieces[symbol]: 4 + i for i, symbol in enumerate(files.symbols)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {"<mask>": len(vocabulary)}), "utf-8")
    shutil.copyfile(tiny_checkpoint.parent / "vocab.bpe", folder / "merges.txt")
    (folder / "config.json").write_text(json.dumps(HF_CONFIG))
    return folder


HF_CONFIG = {
    "activation_function": "gelu",
    **dict.fromkeys(("encoder_normalize_before", "decoder_normalize_before", "normformer", "layernorm_embedding"), True),
    **dict.fromkeys(("patch_layernorm_embedding", "code_layernorm_embedding", "add_type_embedding"), True),
    "share_decoder_input_output_embed": True,
    "entangle_position_embedding": False,
    "d_model": 16,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "resnet_layers": [1, 1, 1],
    "resnet_width": 4,
    "code_dict_size": 3,
    "num_bins": 3,
    "image_bucket_size": 4,
    "token_bucket_size": 8,
    "max_position_embeddings": 40,
    "code_image_size": 16,
    "vocab_size": 0,
}


@pytest.mark.parametrize("safe", [False, True], ids=["pytorch_model.bin", "model.safetensors"])
def test_hf_form_is_the_same_model(hf_folder: Path, tiny_model: Ofa, tokenizer: Tokenizer, tmp_path: Path, safe: bool) -> None:
    if safe:
        tensors = torch.load(hf_folder / "pytorch_model.bin", weights_only=True)
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, hf_folder / "model.safetensors")
        (hf_folder / "pytorch_model.bin").unlink()
    bundle = import_biomedgpt(hf_folder, tmp_path / "out", image_size=64, name="mine")
    config = read_config(bundle.path("config.json"))
    loaded = load_model(bundle, config)
    assert bundle.card.name == "mine"
    assert config.preprocess.size == 64
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in tiny_model.state_dict().items())
    ours = Tokenizer.load(bundle.folder, codes=3, bins=3)
    text = " small left pneumothorax? 3.5 cm"
    assert ours.encode(text) == tokenizer.encode(text)
    assert ours.decode(ours.encode(text)) == text


HF_FAULTS = {
    "config is no JSON": ("config.json", "{", "cannot be read"),
    "config lacks widths": ("config.json", json.dumps({**HF_CONFIG, "d_model": None}), "incomplete"),
    "heads do not fit": (
        "config.json",
        json.dumps({**HF_CONFIG, "encoder_attention_heads": 3, "decoder_attention_heads": 3}),
        "heads",
    ),
    "no normformer": ("config.json", json.dumps({**HF_CONFIG, "normformer": False}), "normformer must be on"),
    "vocabulary is a list": ("vocab.json", "[]", "damaged"),
    "vocabulary has gaps": ("vocab.json", '{"a": 4, "<mask>": 6}', "damaged"),
    "weights are text": ("pytorch_model.bin", "no", "not a readable|refused"),
}


@pytest.mark.parametrize(("name", "content", "message"), HF_FAULTS.values(), ids=HF_FAULTS)
def test_damaged_hf_folders_are_named(hf_folder: Path, tmp_path: Path, name: str, content: str, message: str) -> None:
    (hf_folder / name).write_text(content, "utf-8")
    with pytest.raises(BundleError, match=message):
        import_biomedgpt(hf_folder, tmp_path / "out", image_size=64)
    assert not (tmp_path / "out").exists()


def test_golden_hf_tokenizer_equals_the_original(golden_root: Path, tmp_path: Path) -> None:
    """HF's files, made of the original three, give the original ids."""
    from inference.drafting.importing import _hf_tokenizer

    original = read_bpe(golden_root / "biomedgpt" / "bpe")
    pieces = {str(number): piece for piece, number in original.encoder.items()}
    vocabulary = {pieces.get(symbol, symbol): 4 + i for i, symbol in enumerate(original.symbols)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary | {"<mask>": 50264}), "utf-8")
    shutil.copyfile(golden_root / "biomedgpt" / "bpe" / "vocab.bpe", tmp_path / "merges.txt")
    ours, theirs = (Tokenizer(files, codes=8192, bins=1000) for files in (_hf_tokenizer(tmp_path), original))
    examples = json.loads((golden_root / "biomedgpt" / "bpe" / "examples.json").read_text("utf-8"))["examples"]
    texts = [e["text"] for e in examples if e["kind"] == "encode_text"]
    assert [ours.encode(text) for text in texts] == [theirs.encode(text) for text in texts]
    assert [ours.decode(ours.encode(text)) for text in texts] == texts
