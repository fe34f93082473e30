"""A small CLIP in each form: the same model comes in, and what would be another model is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from inference.bundles import Bundle, open_bundle, verify_bundle
from inference.errors import BundleError
from inference.phantoms import bundle_folder
from inference.triage.checkpoints import import_biomedclip, import_clip
from inference.triage.clip_vocabulary import MERGES
from inference.triage.open_clip_folder import open_folder
from tests.inference.triage.clip_models import randomise, write_hf_vocabulary

CPU = torch.device("cpu")
TEXTS = ["no pneumothorax", "small effusion"]
State = dict[str, torch.Tensor]


def hf_clip(**towers: Any) -> Any:
    """transformers' own, two blocks a tower."""
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2} | towers
    config = CLIPConfig(text_config=small, vision_config=small | {"image_size": 64, "patch_size": 16}, projection_dim=32)
    net = CLIPModel(config)
    randomise(net, 3)
    return net


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "clip"
    hf_clip().save_pretrained(folder)
    write_hf_vocabulary(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "hf"))


def answers(bundle: Bundle) -> tuple[torch.Tensor, torch.Tensor]:
    model = open_folder(bundle.folder, CPU)
    with torch.inference_mode():
        return model.net.encode_image(pictures()), model.net.encode_text(model.tokenize(TEXTS))


def pictures() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_activation_is_the_models_own(tmp_path: Path, activation: str) -> None:
    net = hf_clip(hidden_act=activation)
    net.save_pretrained(tmp_path / "hf")
    write_hf_vocabulary(tmp_path / "hf")
    image, text = answers(import_clip(tmp_path / "hf", tmp_path / "out"))
    tokens = open_clip.tokenizer.SimpleTokenizer()(TEXTS)
    with torch.inference_mode():
        theirs = [net.get_image_features(pixel_values=pictures()), net.get_text_features(input_ids=tokens)]
    image_theirs, text_theirs = (getattr(answer, "pooler_output", answer) for answer in theirs)
    torch.testing.assert_close(image, image_theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(text, text_theirs, rtol=1e-4, atol=1e-4)


def test_every_form_is_the_same_bundle(folder: Path, tmp_path: Path) -> None:
    weights = "open_clip_model.safetensors"
    first = import_clip(folder, tmp_path / "from-hf", source="someone/clip@123")
    assert first.card.source.startswith("someone/clip@123, model.safetensors, sha256 ")
    config = json.loads(first.path("open_clip_config.json").read_text("utf-8"))
    state = open_folder(first.folder, CPU).net.state_dict()
    own = tmp_path / "open-clip"
    own.mkdir()
    (own / "open_clip_config.json").write_text(json.dumps(config), "utf-8")
    torch.save({"state_dict": {f"module.{name}": t for name, t in state.items()}}, own / "open_clip_pytorch_model.bin")
    said = {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}
    torch.save(state | {name: torch.tensor(number) for name, number in said.items()}, tmp_path / "state.pt")
    (tmp_path / "bin").mkdir()
    for name in ("config.json", "vocab.json", "merges.txt"):
        shutil.copyfile(folder / name, tmp_path / "bin" / name)
    from safetensors.torch import load_file

    named = load_file(folder / "model.safetensors")
    counters = {f"{tower}_model.embeddings.position_ids": torch.arange(n)[None] for tower, n in (("text", 77), ("vision", 17))}
    torch.save(named | counters, tmp_path / "bin" / "pytorch_model.bin")
    for form in (own, tmp_path / "state.pt", tmp_path / "bin"):
        bundle = import_clip(form, tmp_path / f"from-{form.name}")
        verify_bundle(bundle)
        assert dict(bundle.files)[weights] == dict(first.files)[weights]
        assert MERGES in dict(bundle.files)
        built = json.loads(bundle.path("open_clip_config.json").read_text("utf-8"))["model_cfg"]
        assert open_clip.CLIP(**built).visual.transformer.resblocks[0].mlp.gelu.__class__.__name__ == "QuickGELU"


def test_shards_are_one_model(folder: Path, tmp_path: Path) -> None:
    whole = import_clip(folder, tmp_path / "whole")
    net = hf_clip()
    net.save_pretrained(folder, max_shard_size="200KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    parts = import_clip(folder, tmp_path / "parts")
    assert [torch.equal(ours, theirs) for ours, theirs in zip(answers(parts), answers(whole), strict=True)] == [True, True]


def _json(name: str, edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        data = json.loads((folder / name).read_text("utf-8"))
        edit(data)
        (folder / name).write_text(json.dumps(data), "utf-8")

    return act


def _weights(edit: Callable[[State], object]) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / "model.safetensors")
        edit(state)
        save_file(state, folder / "model.safetensors")

    return act


BLOCK = "vision_model.encoder.layers.1"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a query missing": (
        _weights(lambda s: s.pop(f"{BLOCK}.self_attn.q_proj.bias")),
        r"query, key and value are missing .* visual\.transformer\.resblocks\.1\.attn\.in_proj_bias",
    ),
    "a norm missing": (_weights(lambda s: s.pop("vision_model.pre_layrnorm.bias")), r"missing: visual\.ln_pre\.bias"),
    "a tensor left over": (_weights(lambda s: s.update(adapter=torch.ones(1))), "left over: adapter"),
    "more positions": (
        _weights(lambda s: s.update({"text_model.embeddings.position_embedding.weight": torch.ones(99, 128)})),
        r"of the wrong shape: positional_embedding \(99, 128\) for \(77, 128\)",
    ),
    "not a number": (_weights(lambda s: s["text_projection.weight"].fill_(float("nan"))), "not finite: text_projection"),
    "other positions": (
        _weights(lambda s: s.update({"text_model.embeddings.position_ids": torch.zeros(1, 77, dtype=torch.long)})),
        "holds other positions",
    ),
    "another activation": (_json("config.json", lambda c: c["text_config"].update(hidden_act="relu")), "hidden_act 'relu'"),
    "two activations": (_json("config.json", lambda c: c["text_config"].update(hidden_act="gelu")), "for texts and"),
    "another epsilon": (_json("config.json", lambda c: c["vision_config"].update(layer_norm_eps=1e-6)), "layer_norm_eps 1e-06"),
    "another end token": (_json("config.json", lambda c: c["text_config"].update(eos_token_id=7)), "eos_token_id 7"),
    "another tokenizer": (
        _json("vocab.json", lambda v: v.update({"the</w>": v["of</w>"], "of</w>": 1})),
        "not CLIP's own",
    ),
    "a damaged tokenizer": (lambda folder: (folder / "vocab.json").write_text("{"), "tokenizer files are damaged"),
    "no tokenizer": (lambda folder: (folder / "merges.txt").unlink(), "no tokenizer beside the weights"),
    "another preprocessing": (
        lambda folder: (folder / "preprocessor_config.json").write_text('{"resample": 2}'),
        "another preprocessing than CLIP's",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no weights; one of these"),
    "cut weights": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000]),
        "not a readable safetensors file",
    ),
}


@pytest.mark.parametrize(("damage", "said"), FAULTS.values(), ids=FAULTS)
def test_what_would_be_another_model_is_refused(
    folder: Path, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(folder)
    with pytest.raises(BundleError, match=said):
        import_clip(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_state_that_says_no_configuration_is_refused(folder: Path, tmp_path: Path) -> None:
    state = open_folder(import_clip(folder, tmp_path / "out").folder, CPU).net.state_dict()
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(BundleError, match="give the folder with its"):
        import_clip(tmp_path / "state.pt", tmp_path / "second")
    said = {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save(state | said, tmp_path / "state.pt")
    with pytest.raises(BundleError, match="its shapes give"):
        import_clip(tmp_path / "state.pt", tmp_path / "second")


def test_a_clip_is_no_biomedclip(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="import it as clip"):
        import_biomedclip(folder, tmp_path / "out")


def test_the_bundles_own_vocabulary_is_the_one_that_is_read(folder: Path, tmp_path: Path) -> None:
    bundle = import_clip(folder, tmp_path / "out")
    bundle.path(MERGES).write_bytes(b"no gzip")
    with pytest.raises(BundleError, match=f"{MERGES}: damaged"):
        open_folder(bundle.folder, CPU)


def test_a_bundle_is_copied(tmp_path: Path) -> None:
    shipped = open_bundle(bundle_folder("biomedclip"))
    assert import_biomedclip(shipped.folder, tmp_path / "copy").digest == shipped.digest
    with pytest.raises(BundleError, match="this is a biomedclip bundle"):
        import_clip(shipped.folder, tmp_path / "second")
