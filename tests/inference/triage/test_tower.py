"""The fast tower against the published ones, form by form; the oracle is the published tower itself."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from open_clip.timm_model import TimmModel
from open_clip.transform import image_transform
from torch import nn

from inference.triage import tower as tower_module
from inference.triage.preparation import Preparation
from inference.triage.tower import FastTower, packs
from inference.triage.tower_forms import plan_of

CPU = torch.device("cpu")
SIZE = 64
_TINY = {"embed_dim": 64, "depth": 3, "num_heads": 2, "img_size": SIZE, "patch_size": 16}
_OPEN = {"image_size": SIZE, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16}

_TIMM: dict[str, dict[str, Any]] = {
    "as BiomedCLIP": {},
    "mean of the patches": {"global_pool": "avg"},
    "mean, normed before": {"global_pool": "avg", "fc_norm": False},
    "register tokens": {"class_token": False, "reg_tokens": 2, "global_pool": "avg", "fc_norm": False},
    "layer scale": {"init_values": 0.3},
    "norm before the blocks": {"pre_norm": True},
    "no position for the class": {"no_embed_class": True},
    "no bias of the query": {"qkv_bias": False},
}
_OPEN_CLIP: dict[str, tuple[dict[str, Any], bool]] = {
    "as CLIP of openai": ({}, True),
    "exact GELU": ({}, False),
    "layer scale": ({"ls_init_value": 0.3}, False),
    "no norm before": ({"no_ln_pre": True}, False),
    "mean of the patches": ({"pool_type": "avg"}, True),
    "norm after the mean": ({"pool_type": "avg", "final_ln_after_pool": True}, False),
}


def of_timm(**more: Any) -> nn.Module:
    visual = TimmModel("test_vit", embed_dim=32, image_size=SIZE, pool="", proj="linear")
    visual.trunk = timm.models.VisionTransformer(num_classes=0, **(_TINY | more))
    return _stirred(visual)


def of_open_clip(more: dict[str, Any], quick: bool) -> nn.Module:
    return _stirred(_build_vision_tower(32, CLIPVisionCfg(**(_OPEN | more)), quick))


def _stirred(visual: nn.Module) -> nn.Module:
    """Weights that are neither 0 nor 1, so that none may be left out unseen."""
    torch.manual_seed(1)
    for name, parameter in visual.named_parameters():
        if parameter.ndim < 2:
            nn.init.normal_(parameter, 0.6 if "weight" in name or "gamma" in name else 0.0, 0.2)
        elif "embed" not in name:
            nn.init.normal_(parameter, std=1.0 / parameter[0].numel() ** 0.5)
    return visual.eval()


@pytest.fixture(scope="module")
def preparation() -> Preparation:
    return Preparation(image_transform(SIZE, is_train=False))


def pixels(channels: int, count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))


def cosines(visual: nn.Module, preparation: Preparation, channels: int, dtype: torch.dtype) -> torch.Tensor:
    plan = plan_of(visual)
    assert plan is not None
    seen = pixels(channels)
    with torch.inference_mode():
        published = nn.functional.normalize(visual(preparation.normalise(seen)).double(), dim=-1)
        fast = FastTower(plan, preparation.normalised, CPU, dtype)(seen)
    assert fast.dtype == torch.float32
    return (published * fast).sum(dim=-1)


_TOWERS = [
    *(pytest.param(lambda more=more: of_timm(**more), id=f"timm: {name}") for name, more in _TIMM.items()),
    *(pytest.param(lambda form=form: of_open_clip(*form), id=f"open_clip: {name}") for name, form in _OPEN_CLIP.items()),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("make", _TOWERS)
def test_in_float32_it_is_the_published_tower(
    make: Any, channels: int, preparation: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tower_module, "packs", lambda _: False)  # the packed products are for bfloat16
    assert cosines(make(), preparation, channels, torch.float32).min() > 1 - 1e-6


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("make", _TOWERS)
def test_in_bfloat16_it_is_near(make: Any, packed: bool, preparation: Preparation, monkeypatch: pytest.MonkeyPatch) -> None:
    if packed and not packs(CPU):
        pytest.skip("oneDNN does not multiply bfloat16 on this processor")
    monkeypatch.setattr(tower_module, "packs", lambda _: packed)
    held = cosines(make(), preparation, 1, torch.bfloat16)
    assert held.min() > 0.999
    assert held.max() < 1 - 1e-9  # half precision did run


def test_the_form_counts() -> None:
    """Each form of the table gives other embeddings: a form that is overlooked would be seen above."""
    seen = pixels(3)
    prepared = Preparation(image_transform(SIZE, is_train=False)).normalise(seen)
    with torch.inference_mode():
        outcomes = [of_open_clip(*form)(prepared) for form in _OPEN_CLIP.values()]
        outcomes += [of_timm(**more)(prepared) for more in _TIMM.values()]
    for index, one in enumerate(outcomes):
        for other in outcomes[:index]:
            assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: of_timm(qk_norm=True), id="norm of query and key"),
        pytest.param(lambda: of_timm(act_layer=nn.ReLU), id="another activation"),
        pytest.param(lambda: of_timm(global_pool="map"), id="pooled by attention"),
        pytest.param(lambda: of_open_clip({"attentional_pool": True, "attn_pooler_heads": 2}, False), id="attentional pool"),
        pytest.param(lambda: of_open_clip({"scale_heads": True}, False), id="custom blocks"),
        pytest.param(lambda: of_open_clip({"layers": (1, 1, 1, 1)}, False), id="a ResNet"),
        pytest.param(lambda: TimmModel("test_convnext", 32, 64, pool="avg", proj="linear"), id="a ConvNeXt"),
    ],
)
def test_another_form_gives_no_plan(make: Any) -> None:
    assert plan_of(make()) is None


def test_a_batch_is_the_sum_of_its_images(preparation: Preparation) -> None:
    plan = plan_of(of_timm())
    assert plan is not None
    fast, many = FastTower(plan, preparation.normalised, CPU), pixels(1, 11)
    with torch.inference_mode():
        together = fast(many)
        alone = torch.cat([fast(one[None]) for one in many])
    assert (together * alone).sum(dim=1).min() > 0.9999
