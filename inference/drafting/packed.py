"""Products and convolutions on the CPU whose weights are laid out once the way oneDNN multiplies by them.

The operators are those that torch's own compiler puts in place of its modules: torch's own, not promised to users, hence
``packs``. Images stay in the layout (B, H, W, C) that ``channels_last`` means.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.drafting.resnet import Bottleneck

ROWS: Final = 40  # for how many rows at once oneDNN lays weights out: a batch of beams; the layout serves 1 and 4,000 as well
_NOTHING: Final[tuple[str, list[float], str]] = ("none", [], "")


class PackedLinear(nn.Module):
    """``nn.Linear``; ``gelu`` applies GELU to the result in passing."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self.bias = None if bias is None else bias.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self._after = ("gelu", list[float](), "none") if gelu else _NOTHING

    def __call__(self, x: Tensor) -> Tensor:  # hooks, which nothing hangs here, cost as much as a small product
        return torch.ops.mkldnn._linear_pointwise.default(x, self._weight, self.bias, *self._after)  # type: ignore[no-any-return]

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual + product, without what is done in passing."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._weight, self.bias, "add")  # type: ignore[no-any-return]


class PackedNorm(nn.Module):
    """``nn.LayerNorm`` over the last dimension, in one call."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self._with = (norm.normalized_shape, norm.weight.detach(), norm.bias.detach(), norm.eps, False)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, *self._with)


class PackedConvolution(nn.Module):
    """``nn.Conv2d`` with a bias, as a folded BatchNorm leaves one; ``relu`` applies ReLU to the result in passing."""

    def __init__(self, conv: nn.Module, *, relu: bool) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d)
        self._bias = conv.bias
        self._how: tuple[Any, ...] = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self._how)
        self._after = ("relu", list[float](), "") if relu else _NOTHING

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, self._bias, *self._how, *self._after)  # type: ignore[no-any-return]

    def onto(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """relu(shortcut + convolved x), which takes the shortcut's place."""
        how = (*self._how, "add", 1.0, "relu", [], None)
        return torch.ops.mkldnn._convolution_pointwise_.binary(shortcut, x, self._weight, self._bias, *how)  # type: ignore[no-any-return]


class PackedBottleneck(nn.Module):
    """``Bottleneck`` of folded convolutions. It writes over what it is given."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1, self.conv2 = PackedConvolution(block.conv1, relu=True), PackedConvolution(block.conv2, relu=True)
        self.conv3 = PackedConvolution(block.conv3, relu=False)
        self.downsample = None if block.downsample is None else PackedConvolution(block.downsample[0], relu=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv2(self.conv1(x))
        return self.conv3.onto(x if self.downsample is None else self.downsample(x), inner)


def packs(dtype: torch.dtype) -> bool:
    """Whether this torch lays weights out for oneDNN, and computes with them what its own modules do."""
    try:
        return all(_alike(found, wanted) for found, wanted in (*_products(dtype), *_convolutions(dtype)))
    except (RuntimeError, AttributeError, TypeError):  # operators that this torch lacks or calls otherwise
        return False


def _alike(found: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(found, wanted, rtol=0.02, atol=0.1 if wanted.dtype == torch.bfloat16 else 1e-4)


@torch.no_grad()
def _products(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    x, weight = torch.linspace(-1, 1, 3 * 16, dtype=dtype).view(3, 16), torch.linspace(-1, 1, 32 * 16, dtype=dtype).view(32, 16)
    bias = weight[:, 0].clone()
    wanted = functional.linear(x, weight, bias)
    packed = PackedLinear(weight, bias)
    found = [packed(x), PackedLinear(weight, bias, gelu=True)(x), packed.onto(wanted, x)]
    return list(zip(found, (wanted, functional.gelu(wanted), wanted + wanted), strict=True))


@torch.no_grad()
def _convolutions(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    conv = nn.Conv2d(16, 16, 3, padding=1)
    conv.weight.copy_(torch.linspace(-0.1, 0.1, conv.weight.numel()).view_as(conv.weight))
    assert conv.bias is not None
    conv.bias.copy_(torch.linspace(-1, 1, 16))
    conv.to(dtype).to(memory_format=torch.channels_last)
    x = torch.linspace(-1, 1, 16 * 64, dtype=dtype).view(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    packed, wanted = PackedConvolution(conv, relu=True), conv(x)
    return [(packed(x), wanted.relu()), (packed.onto(x.clone(), x), (x + wanted).relu())]
