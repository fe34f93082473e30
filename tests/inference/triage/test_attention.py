"""Attention computed again: against the modules' own output, and its gradient against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from open_clip.model import VisionTransformer
from open_clip.timm_model import TimmModel
from torch import nn

from inference.errors import BundleError
from inference.triage.attention import open_tower, traced, weigh, weight_gradient
from inference.triage.image_tower import ImageTower

SIZE, WIDTH = 160, 32


def of_timm(pool: str, name: str = "test_vit2") -> nn.Module:
    return TimmModel(name, embed_dim=WIDTH, image_size=SIZE, pool=pool, proj="linear")


def of_open_clip(pool: str) -> nn.Module:
    return VisionTransformer(SIZE, 16, 64, 4, 4, 2.0, output_dim=WIDTH, pool_type=pool)


TOWERS: dict[str, Callable[[], nn.Module]] = {
    "BiomedCLIP's timm, class token": lambda: of_timm("token", "test_vit"),
    "timm, mean of patches": lambda: of_timm("avg"),
    "CLIP's open_clip, class token": lambda: of_open_clip("tok"),
    "open_clip, mean of patches": lambda: of_open_clip("avg"),
}


@pytest.fixture(params=TOWERS.values(), ids=TOWERS)
def net(request: pytest.FixtureRequest) -> ImageTower:
    torch.manual_seed(3)
    tower = ImageTower(request.param(), torch.zeros(())).double().eval()
    with torch.no_grad():  # as random starts leave it, attention is nearly even and nothing could be told apart
        for name, weight in tower.named_parameters():
            if weight.ndim == 2 and "attn" in name:
                weight.mul_(6)
    return tower


def test_the_tower_is_found(net: ImageTower) -> None:
    tower = open_tower(net)
    assert len(tower.blocks) == len(tower.attentions) >= 4
    assert (tower.grid, tower.prefix) == ((10, 10), 1)


def test_recomputed_attention_gives_the_modules_own_output(net: ImageTower) -> None:
    tower = open_tower(net)
    with traced(tower, 0) as trace:
        net.encode_image(torch.randn(2, 3, SIZE, SIZE, dtype=torch.double))
    assert len(trace.gave) == len(tower.blocks)
    for number, module in enumerate(tower.attentions):
        weights, value = weigh(module, trace.given[number])
        assert weights.shape == (2, weights.shape[1], 101, 101)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]))
        assert float(weights.detach().amax()) > 3 / 101  # not even: the comparison below would see a wrong softmax
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        projection = module.proj if hasattr(module, "proj") else module.out_proj
        torch.testing.assert_close(projection(mixed), trace.gave[number])


def test_the_gradient_is_what_a_changed_weight_does(net: ImageTower) -> None:
    """Oracle: one weight of one head is raised by hand where the module gives its output, and the score is taken again."""
    tower, step = open_tower(net), 1e-6
    image, line = torch.randn(1, 3, SIZE, SIZE, dtype=torch.double), torch.randn(WIDTH, dtype=torch.double)
    number = len(tower.blocks) - 2
    module = tower.attentions[number]
    with traced(tower, number) as trace:
        score = net.encode_image(image, normalize=True)[0] @ line
    (gradient,) = torch.autograd.grad(score, [trace.gave[number]])
    _, value = weigh(module, trace.given[number])
    found = weight_gradient(module, value, gradient)[0].detach()
    projection = module.proj if hasattr(module, "proj") else module.out_proj
    for head, row, column in ((0, 0, 40), (1, 7, 3), (0, 100, 100)):
        push = torch.zeros(1, 101, value.shape[1], value.shape[-1], dtype=torch.double)
        push[0, row, head] = step * value[0, head, column].detach()
        change = (push.flatten(2) @ projection.weight.T).detach()
        with torch.no_grad():
            raised = changed_score(net, module, change, image, line)
            lowered = changed_score(net, module, -change, image, line)
        expected = float(raised - lowered) / (2 * step)
        assert float(found[head, row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def changed_score(
    net: ImageTower, module: nn.Module, change: torch.Tensor, image: torch.Tensor, line: torch.Tensor
) -> torch.Tensor:
    def add(_: nn.Module, __: object, out: torch.Tensor | tuple[torch.Tensor, None]) -> object:
        return (out[0] + change, *out[1:]) if isinstance(out, tuple) else out + change

    hook = module.register_forward_hook(add)
    try:
        return net.encode_image(image, normalize=True)[0] @ line
    finally:
        hook.remove()


def test_a_look_leaves_nothing_behind(net: ImageTower) -> None:
    image = torch.randn(1, 3, SIZE, SIZE, dtype=torch.double)
    before = net.encode_image(image)
    with traced(open_tower(net), 1):
        during = net.encode_image(image)
    torch.testing.assert_close(before, during, rtol=0, atol=0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(weight.grad is None for weight in net.parameters())


def test_other_towers_are_refused() -> None:
    class Convolutions(nn.Module):
        visual = nn.Conv2d(3, 8, 3)

    with pytest.raises(BundleError, match="no vision transformer"):
        open_tower(Convolutions())


def test_other_attention_is_refused() -> None:
    tower = ImageTower(of_open_clip("tok"), torch.zeros(()))
    block = tower.visual.transformer.resblocks[1]  # type: ignore[union-attr, index]
    block.attn = nn.MultiheadAttention(64, 4, batch_first=True, add_bias_kv=True)  # type: ignore[union-attr]
    with pytest.raises(BundleError, match="set heat_maps: false"):
        open_tower(tower)
