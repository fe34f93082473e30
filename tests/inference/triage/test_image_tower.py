"""The image half alone: the same as in the whole model, without the text half."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from inference.bundles import Bundle
from inference.errors import BundleError
from inference.phantoms import draw_phantom
from inference.triage.image_tower import image_half, open_image_half
from inference.triage.open_clip_folder import WEIGHTS, open_folder

CPU = torch.device("cpu")


def test_it_is_the_same_tower_with_the_same_preprocessing(random_bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    half, whole = open_image_half(random_bundle.folder, CPU), open_folder(random_bundle.folder, CPU)
    film = Image.fromarray(draw_phantom(3, size=200).pixels)
    assert torch.equal(half.transform(film), whole.transform(film))
    with torch.inference_mode():
        seen = half.transform(film)[None]
        assert torch.equal(half.tower(seen), whole.net.encode_image(seen, normalize=True))
        assert torch.equal(half.tower(seen), image_half(whole).tower(seen))
    assert torch.equal(half.tower.logit_scale, whole.net.logit_scale)
    assert {name for name, _ in half.tower.named_parameters()} == {
        name for name, _ in whole.net.named_parameters() if name.startswith("visual.")
    }
    assert not half.tower.training
    assert "No pretrained weights" not in caplog.text


def test_gradients_flow_through_it(random_bundle: Bundle) -> None:
    """Heat maps need them."""
    tower = open_image_half(random_bundle.folder, CPU).tower
    seen = torch.zeros(1, 3, 160, 160, requires_grad=True)
    tower(seen)[0, 0].backward()
    assert seen.grad is not None


@pytest.mark.parametrize("change", ["lose", "add", "stretch"])
def test_every_tensor_must_find_its_place(tmp_path: Path, random_bundle: Bundle, change: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(random_bundle.folder, folder)
    state = load_file(folder / WEIGHTS)
    weight = state["visual.trunk.blocks.0.attn.qkv.weight"]
    if change == "lose":
        del state["visual.trunk.blocks.0.attn.qkv.weight"]
    elif change == "add":
        state["visual.trunk.blocks.0.attn.more"] = weight.clone()
    else:
        state["visual.trunk.blocks.0.attn.qkv.weight"] = torch.cat([weight, weight])
    save_file(state, folder / WEIGHTS)
    with pytest.raises(BundleError, match="cannot be opened"):
        open_image_half(folder, CPU)


@pytest.mark.parametrize("name", ["open_clip_config.json", WEIGHTS])
def test_a_missing_file_is_told(tmp_path: Path, random_bundle: Bundle, name: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(random_bundle.folder, folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=str(folder)):
        open_image_half(folder, CPU)
