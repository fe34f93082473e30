"""Triage against open_clip used plainly, without network, and against damaged bundles."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from inference.bundles import Bundle, BundleCard, open_bundle, verify_bundle, write_manifest
from inference.errors import BundleError, CatalogueError
from inference.phantoms import KEYS, draw_phantom
from inference.reading import Frame, FrameSource
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.contrastive import JUDGES, Triage

CPU = torch.device("cpu")


def frame(pixels: np.ndarray[Any, np.dtype[np.uint8]], number: int = 1) -> Frame:
    return Frame(pixels, FrameSource(f"1.2.{number}", "1.2.840.10008.5.1.4.1.1.1.1", "1.2"), "DX", "CHEST", "PA")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    grey = [frame(draw_phantom(seed, size=200).pixels, seed) for seed in range(3)]
    wide = frame(np.pad(grey[0].pixels, ((0, 0), (30, 20))), 4)
    colour = frame(np.stack([grey[1].pixels] * 3, axis=2), 5)
    return [*grey, wide, colour]


@pytest.fixture(scope="module")
def triage(judges_all: Bundle, catalogue: FindingsCatalogue) -> Triage:
    return Triage.load(judges_all, catalogue, CPU)


def test_scores_and_embeddings_equal_plain_open_clip(
    tmp_path: Path, triage: Triage, frames: list[Frame], catalogue: FindingsCatalogue
) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(triage.bundle.folder, folder)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    path.write_text(json.dumps(config), "utf-8")
    net, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}", pretrained_hf=False)
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    net.eval()
    with torch.no_grad():
        images = torch.stack([transform(Image.fromarray(one.pixels).convert("RGB")) for one in frames])
        seen = net.encode_image(images, normalize=True).numpy()
        scale = float(net.logit_scale.exp())

        def unit(prompts: tuple[str, ...]) -> np.ndarray[Any, Any]:
            texts = [template.replace("{}", prompt) for template in catalogue.templates for prompt in prompts]
            mean = net.encode_text(tokenize(texts), normalize=True).numpy().astype(np.float64).mean(axis=0)
            return np.asarray(mean / np.linalg.norm(mean))

        sides = [np.stack([unit(entry.positive), unit(entry.negative)]) for entry in catalogue.findings]
    logits = np.exp(scale * np.einsum("fd,esd->fes", seen.astype(np.float64), np.stack(sides)))
    wanted = logits[..., 0] / logits.sum(axis=-1)
    np.testing.assert_allclose(triage.embed(frames), seen, atol=1e-5)
    scores = triage.score(frames)
    assert scores.dtype == np.float32
    assert scores.std() > 1e-4
    np.testing.assert_allclose(scores, wanted, atol=1e-4)


def test_scores_do_not_depend_on_company(triage: Triage, frames: list[Frame]) -> None:
    together = triage.score(frames * 4)
    np.testing.assert_allclose(together[: len(frames)], np.concatenate([triage.score([one]) for one in frames]), atol=1e-5)


def test_loading_asks_no_network_and_leaves_the_bundle_alone(
    monkeypatch: pytest.MonkeyPatch, judges_all: Bundle, catalogue: FindingsCatalogue, frames: list[Frame]
) -> None:
    asked: list[object] = []

    def refuse(*args: object, **_: object) -> None:
        asked.append(args)
        raise OSError("no network here")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    Triage.load(judges_all, catalogue, CPU).score(frames[:1])
    assert asked == []
    verify_bundle(judges_all)


def test_the_older_spelling_of_the_text_tower_is_read(
    tmp_path: Path, triage: Triage, catalogue: FindingsCatalogue, frames: list[Frame]
) -> None:
    def respell(config: dict[str, Any]) -> None:
        text = config["model_cfg"]["text_cfg"]
        text["proj"], text["pooler_type"] = text.pop("hf_proj_type"), text.pop("hf_pooler_type")

    bundle = _changed(tmp_path, triage.bundle, respell)
    np.testing.assert_array_equal(Triage.load(bundle, catalogue, CPU).score(frames), triage.score(frames))


def test_a_bundle_judges_what_it_was_trained_for(random_bundle: Bundle, triage: Triage, catalogue: FindingsCatalogue) -> None:
    assert Triage.load(random_bundle, catalogue, CPU).judged == set(KEYS)
    assert triage.judged == set(catalogue.keys)


def test_a_damaged_list_of_findings_is_told(tmp_path: Path, random_bundle: Bundle, catalogue: FindingsCatalogue) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(random_bundle.folder, folder)
    (folder / JUDGES).write_text('{"finding": []}', "utf-8")
    with pytest.raises(BundleError, match=r"wetread\.json: damaged"):
        Triage.load(open_bundle(folder), catalogue, CPU)


def test_a_prompt_that_would_be_cut_is_refused(judges_all: Bundle, catalogue: FindingsCatalogue) -> None:
    long = replace(catalogue.findings[0], negative=("no " + "very " * 80 + "large pneumothorax",))
    with pytest.raises(CatalogueError, match="is longer than the 64 tokens this model reads"):
        Triage.load(judges_all, replace(catalogue, findings=(long,)), CPU)


def _lose(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def _write(name: str, content: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(_lose("open_clip_config.json"), "open_clip_config.json is missing", id="no config"),
        pytest.param(_lose("open_clip_model.safetensors"), "open_clip_model.safetensors missing", id="no weights"),
        pytest.param(_lose("config.json"), "config.json missing", id="no text tower config"),
        pytest.param(
            lambda folder: [_lose(n)(folder) for n in ("tokenizer.json", "vocab.txt")], "vocab.txt missing", id="no tokenizer"
        ),
        pytest.param(_write("open_clip_config.json", b"{"), "damaged or not an open_clip", id="config no JSON"),
        pytest.param(_write("open_clip_config.json", b"{}"), "damaged or not an open_clip", id="config empty"),
        pytest.param(
            _write("open_clip_config.json", b'{"model_cfg": {"text_cfg": 1, "vision_cfg": {}}}'), "mappings", id="config form"
        ),
        pytest.param(
            _write("config.json", b'{"model_type": "bert", "hidden_size": 32}'), "cannot be opened", id="other text tower"
        ),
        pytest.param(_write("open_clip_model.safetensors", b"\x10"), "cannot be opened", id="weights cut"),
    ],
)
def test_a_damaged_bundle_is_told(
    tmp_path: Path, judges_all: Bundle, catalogue: FindingsCatalogue, damage: Any, says: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(judges_all.folder, folder)
    damage(folder)
    with pytest.raises(BundleError, match=says) as caught:
        Triage.load(replace(judges_all, folder=folder), catalogue, CPU)
    assert str(folder) in str(caught.value)


def test_a_plain_clip_is_read_too(tmp_path: Path, catalogue: FindingsCatalogue, frames: list[Frame]) -> None:
    """ViT-B-16's form, narrower: open_clip's own text tower and byte-pair tokenizer."""
    vision = {"image_size": 64, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), "utf-8")
    torch.manual_seed(0)
    net = open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text)
    save_file(
        {name: value.contiguous() for name, value in net.state_dict().items()}, str(tmp_path / "open_clip_model.safetensors")
    )
    card = replace(_card(), kind="clip")
    scores = Triage.load(write_manifest(tmp_path, card), catalogue, CPU).score(frames)
    assert scores.shape == (len(frames), len(catalogue.findings))
    assert np.isfinite(scores).all()


def _card() -> BundleCard:
    return BundleCard("tiny", "biomedclip", "1", "made here", "none", "test", ())


def _changed(tmp_path: Path, bundle: Bundle, change: Any) -> Bundle:
    folder = tmp_path / "changed"
    shutil.copytree(bundle.folder, folder)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text("utf-8"))
    change(config)
    path.write_text(json.dumps(config), "utf-8")
    return replace(bundle, folder=folder)
