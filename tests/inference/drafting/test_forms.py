"""The forms a BiomedGPT checkpoint comes in: settings as each trainer kept them, shards, averages, and bundles themselves."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.bundles import Bundle, check_mode, verify_bundle
from inference.drafting.checkpoints import read_checkpoint
from inference.drafting.config import read_config
from inference.drafting.drafter import load_model
from inference.drafting.fairseq_settings import ALLOWED, settings_of
from inference.drafting.importing import convert_tokenizer, import_biomedgpt
from inference.drafting.model import Ofa
from inference.drafting.results import DecoderPrompt, Task
from inference.drafting.tokenizer import Tokenizer, read_bpe
from inference.errors import BundleError, LicenceError
from inference.phantoms import bundle_folder
from inference.reading import UseMode
from inference.weight_files import load_pickled
from tests.inference.drafting.forms import save_hf, save_original, write_hf_tokenizer

State = dict[str, Any]
HERE = Path(__file__).parent
Q = "encoder.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def original(tiny_model: Ofa, tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A .pt as the original trainer saves it, its tokenizer beside it."""
    folder = tmp_path / "original"
    shutil.copytree(tokenizer_folder, folder)
    save_original(tiny_model, folder / "checkpoint_best.pt", image_size=64, codes=3, bins=3)
    return folder / "checkpoint_best.pt"


@pytest.fixture
def hf(tiny_model: Ofa, tokenizer_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny model as an HF folder."""

    def write(**how: Any) -> Path:
        save_hf(tiny_model, tmp_path / "hf", codes=3, bins=3, **how)
        write_hf_tokenizer(read_bpe(tokenizer_folder), tmp_path / "hf")
        return tmp_path / "hf"

    return write


def assert_is(bundle: Bundle, model: Ofa) -> None:
    verify_bundle(bundle)
    loaded = load_model(bundle, read_config(bundle.path("config.json"))).state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


def change(path: Path, edit: Callable[[State], object]) -> Path:
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)
    return path


def _all_in_args(state: State) -> None:
    everything = vars(state["cfg"]["model"]) | state["cfg"]["task"] | {"task": "caption"}
    del everything["_name"]
    state.update(args=argparse.Namespace(**everything), cfg=None)


FORMS: dict[str, Callable[[State], object]] = {
    "as saved": lambda _: None,
    "model as a dictionary": lambda state: state["cfg"].update(model=vars(state["cfg"]["model"])),
    "task as a Namespace": lambda state: state["cfg"].update(task=argparse.Namespace(**state["cfg"]["task"])),
    "all of cfg a Namespace": lambda state: state.update(cfg=argparse.Namespace(**state["cfg"])),
    "args, before there was cfg": _all_in_args,
    "cfg not there at all": lambda state: (_all_in_args(state), state.pop("cfg")),
    "a value by reference": lambda state: (
        state["cfg"]["common"].update(side=64),
        state["cfg"]["task"].update(patch_image_size="${common.side}"),
    ),
    "no extra state": lambda state: state.update(extra_state=None),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_settings_are_read_however_they_were_kept(
    original: Path, tiny_model: Ofa, tmp_path: Path, form: Callable[[State], object]
) -> None:
    bundle = import_biomedgpt(change(original, form), tmp_path / "out")
    assert_is(bundle, tiny_model)
    config = read_config(bundle.path("config.json"))
    assert (config.preprocess.size, config.tasks) == (64, (Task.CAPTION,))


@pytest.mark.parametrize("version", ["2.0.6", "2.3.0"])
def test_omegaconf_is_read_without_omegaconf(version: str) -> None:
    """Files made by the real library: fairseq's own version of it, and a newer one."""
    model, task = settings_of(load_pickled(HERE / "omegaconf" / f"{version}.pt", allowed=ALLOWED))
    assert model == {
        "arch": "ofa",
        "encoder_layers": 2,
        "activation_fn": "gelu",
        "max_source_positions": 1024,
        "encoder_embed_dim": 64,
        "scale_attn": True,
        "attn_scale_factor": 2.0,
        "resnet_layers": [1, 1, 1],
        "dropout": 0.1,
        "nothing": None,
    }
    assert task["patch_image_size"] == 480
    assert task["max_source_positions"] == 1024  # "${model.max_source_positions}" in the file


def _circle() -> State:
    circle: State = {}
    circle["model"] = circle
    return circle


ODD: dict[str, tuple[Callable[[State], object], str]] = {
    "settings in a circle": (lambda state: state.update(cfg=_circle()), "hold themselves"),
    "references in a circle": (
        lambda state: state["cfg"].update(
            task={"patch_image_size": "${task.num_bins}", "num_bins": "${task.patch_image_size}"}
        ),
        "refer to themselves",
    ),
    "a reference to nothing": (lambda state: state["cfg"]["task"].update(num_bins="${common.none}"), "incomplete"),
    "settings as a list": (lambda state: state["cfg"].update(model=[1, 2]), "cfg.model is a list"),
    "settings as text": (lambda state: state.update(cfg="model"), "cfg is a str"),
    "neither cfg nor args": (lambda state: state.update(cfg=None), "args is a NoneType"),
    "weights as a list": (lambda state: state.update(model=[torch.ones(1)]), "not a fairseq checkpoint"),
    "a tensor of shapes only": (lambda state: state["model"].update({Q: torch.empty(16, 16, device="meta")}), "plain numbers"),
    "buckets as one number": (
        lambda state: state["model"].update({"encoder.token_rp_bucket": torch.tensor(1)}),
        "other positions",
    ),
    "buckets as fractions": (
        lambda state: state["model"].update({"encoder.image_rp_bucket": torch.ones(17, 17)}),
        "image_rp_bucket holds other positions",
    ),
}


@pytest.mark.parametrize(("edit", "said"), ODD.values(), ids=ODD)
def test_odd_settings_and_tensors_are_told(original: Path, edit: Callable[[State], object], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        read_checkpoint(change(original, edit))


def test_what_a_checkpoint_was_trained_for_decides_the_tasks(original: Path, tmp_path: Path) -> None:
    change(original, lambda state: state["cfg"]["task"].update(_name="vqa_gen", prompt_type="src"))
    config = read_config(import_biomedgpt(original, tmp_path / "vqa").path("config.json"))
    assert (config.tasks, config.vqa.decoder_prompt) == ((Task.VQA,), DecoderPrompt.SRC)
    change(original, lambda state: state["cfg"]["task"].update(_name="unify_task"))
    config = read_config(import_biomedgpt(original, tmp_path / "pretrained").path("config.json"))
    assert (config.tasks, config.vqa.decoder_prompt) == ((Task.CAPTION, Task.VQA), DecoderPrompt.NONE)
    config = read_config(import_biomedgpt(original, tmp_path / "told", tasks=tuple(Task)).path("config.json"))
    assert config.tasks == tuple(Task)


def test_the_card_says_where_the_weights_are_from(original: Path, tmp_path: Path) -> None:
    plain = import_biomedgpt(original, tmp_path / "plain", source="someone/model@1234")
    assert plain.card.source.startswith("someone/model@1234, checkpoint_best.pt, sha256 ")
    change(original, lambda state: state["extra_state"].update(ema=dict(state["model"])))
    average = import_biomedgpt(original, tmp_path / "average")
    assert average.card.source.startswith("imported from checkpoint_best.pt, its moving average (EMA) weights, sha256 ")


@pytest.mark.parametrize("how", [{"safe": safe, "shards": n} for safe in (False, True) for n in (1, 3)], ids=str)
def test_hf_weights_are_the_same_whole_and_in_shards(
    hf: Callable[..., Path], tiny_model: Ofa, tmp_path: Path, how: dict[str, Any]
) -> None:
    assert_is(import_biomedgpt(hf(**how), tmp_path / "out", image_size=64), tiny_model)


def _index(edit: Callable[[dict[str, str]], object]) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        path = folder / "pytorch_model.bin.index.json"
        data = json.loads(path.read_text("utf-8"))
        edit(data["weight_map"])
        path.write_text(json.dumps(data), "utf-8")

    return act


SHARD = "pytorch_model-00002-of-00003.bin"
SHARD_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a shard is missing": (lambda folder: (folder / SHARD).unlink(), f"lists the shard {SHARD}"),
    "a shard is cut": (
        lambda folder: (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:900]),
        f"{SHARD}: not a readable",
    ),
    "a tensor is elsewhere": (_index(lambda m: m.update({"decoder.layer_norm.bias": SHARD})), "does not hold what|not listed"),
    "a tensor is not listed": (_index(lambda m: m.pop("encoder.layer_norm.bias")), "not listed: encoder.layer_norm.bias"),
    "a shard is outside": (_index(lambda m: m.update(x="../../etc/passwd")), "must name files of the same folder"),
    "nothing is listed": (_index(lambda m: m.clear()), "must name files"),
    "the index is damaged": (
        lambda folder: (folder / "pytorch_model.bin.index.json").write_text("{"),
        "not an index of shards",
    ),
}


@pytest.mark.parametrize(("damage", "said"), SHARD_FAULTS.values(), ids=SHARD_FAULTS)
def test_faulty_shards_are_named(hf: Callable[..., Path], damage: Callable[[Path], object], said: str) -> None:
    folder = hf(shards=3)
    damage(folder)
    with pytest.raises(BundleError, match=said):
        read_checkpoint(folder, image_size=64)


def test_a_tensor_under_two_names_is_told(hf: Callable[..., Path]) -> None:
    folder = hf()
    weights = folder / "pytorch_model.bin"
    tensors = torch.load(weights, weights_only=True)
    torch.save(tensors | {"encoder.layers.0.attn_ln.bias": torch.ones(16)}, weights)
    with pytest.raises(BundleError, match="holds tensors twice"):
        read_checkpoint(folder)


def test_the_tokenizer_alone_can_be_taken_from_an_hf_folder(
    hf: Callable[..., Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    convert_tokenizer(hf(), tmp_path / "bpe")
    made = Tokenizer.load(tmp_path / "bpe", codes=3, bins=3)
    text = " clear lungs, 3.5 cm?"
    assert made.encode(text) == tokenizer.encode(text)


def test_a_bundle_is_verified_and_copied(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tiny_bundle.folder / "notes.txt").write_text("not in the manifest")
    copy = import_biomedgpt(tiny_bundle.folder, tmp_path / "copy")
    assert (copy.digest, copy.card) == (tiny_bundle.digest, tiny_bundle.card)
    assert not (copy.folder / "notes.txt").exists()
    (tiny_bundle.folder / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"config\.json differs from its sha256"):
        import_biomedgpt(tiny_bundle.folder, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    with pytest.raises(BundleError, match="this is a biomedclip bundle"):
        import_biomedgpt(bundle_folder("biomedclip"), tmp_path / "third")


def test_it_is_not_for_patients_without_a_recorded_permission(tiny_bundle: Bundle) -> None:
    check_mode(tiny_bundle, UseMode.RESEARCH, "")
    check_mode(tiny_bundle, UseMode.SHADOW, "")
    with pytest.raises(LicenceError, match="academic research only"):
        check_mode(tiny_bundle, UseMode.ASSIST, "")
    check_mode(tiny_bundle, UseMode.ASSIST, "Dr A. of the authors, 2026-11-01, in writing")


def _bert(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 8}), "utf-8")
    torch.save({"bert.embeddings.word_embeddings.weight": torch.ones(5, 8)}, folder / "pytorch_model.bin")
    return folder


def _resnet(folder: Path) -> Path:
    torch.save({"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}, folder / "resnet.pt")
    return folder / "resnet.pt"


def _wav2vec(folder: Path) -> Path:
    """Another model of fairseq."""
    cfg = {"model": argparse.Namespace(_name="wav2vec2", encoder_layers=12), "task": {"_name": "audio_pretraining"}}
    torch.save({"cfg": cfg, "model": {"mask_emb": torch.ones(3)}, "extra_state": {}, "args": None}, folder / "wav2vec.pt")
    return folder / "wav2vec.pt"


def _triage(_: Path) -> Path:
    return bundle_folder("biomedclip")


STRANGERS = {
    "a BERT": (_bert, "incomplete, or of another model"),
    "a bare ResNet": (_resnet, "not a fairseq checkpoint of BiomedGPT"),
    "wav2vec of fairseq": (_wav2vec, "its configuration is incomplete"),
    "a BiomedCLIP bundle": (_triage, "this is a biomedclip bundle"),
}


@pytest.mark.parametrize(("make", "said"), STRANGERS.values(), ids=STRANGERS)
def test_another_model_is_told(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    (tmp_path / "theirs").mkdir()
    with pytest.raises(BundleError, match=said):
        import_biomedgpt(make(tmp_path / "theirs"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
