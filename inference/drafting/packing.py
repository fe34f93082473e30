"""Rewrite a loaded model so that it computes the same with less work: once, when it is loaded, never for training.

BatchNorm goes into the convolution before it; the three projections of self-attention become one, as do keys and values of
cross-attention; the scale of the queries and of each head goes into the weights. On the CPU, weights are laid out once the way
oneDNN multiplies by them, which it would otherwise do at every token.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.drafting.layers import Attention, DecoderLayer, EncoderLayer, split_heads
from inference.drafting.model import Ofa
from inference.drafting.resnet import Bottleneck, ResNet

ROWS: Final = 40  # for how many rows at once oneDNN lays weights out: a batch of beams; the layout serves 1 and 4,000 as well


class JoinedAttention(Attention):
    """``Attention`` with its scales in its weights and its projections joined: (q, k, v), or q and (k, v) for a source."""

    def __init__(self, attention: Attention, *, own: bool) -> None:
        nn.Module.__init__(self)
        self.heads = attention.heads
        q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
        scaled = linear_of(q.weight * attention.scale, q.bias * attention.scale)
        self.own_proj: nn.Module | None = _stack(scaled, k, v) if own else None
        self.query_proj: nn.Module | None = None if own else scaled
        self.memory_proj: nn.Module | None = None if own else _stack(k, v)
        out = attention.out_proj
        each = attention.c_attn.repeat_interleave(out.in_features // self.heads)  # (d,)
        self.out_proj = linear_of(out.weight * each, out.bias)

    def query(self, x: Tensor) -> Tensor:
        assert self.query_proj is not None
        return split_heads(self.query_proj(x), self.heads)

    def memory(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert self.memory_proj is not None
        k, v = self.memory_proj(x).chunk(2, dim=-1)  # (B, S, 2d) -> 2 × (B, S, d)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def own(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert self.own_proj is not None
        q, k, v = self.own_proj(x).chunk(3, dim=-1)  # (B, T, 3d) -> 3 × (B, T, d)
        return split_heads(q, self.heads), split_heads(k, self.heads), split_heads(v, self.heads)

    def join(self, y: Tensor) -> Tensor:
        return self.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class PackedLinear(nn.Module):
    """``nn.Linear`` on the CPU with its weight laid out once for oneDNN; ``gelu`` applies GELU to the result in passing.

    The operators are those that torch's own compiler puts in place of ``nn.Linear``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self.bias = bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self._after: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self.bias, *self._after)  # type: ignore[no-any-return]


def packs(dtype: torch.dtype) -> bool:
    """Whether this torch lays weights out for oneDNN, and multiplies by them as ``nn.Linear`` does."""
    x, weight = torch.linspace(-1, 1, 3 * 16, dtype=dtype).view(3, 16), torch.linspace(-1, 1, 32 * 16, dtype=dtype).view(32, 16)
    try:
        found = [PackedLinear(weight, weight[:, 0].clone(), gelu=gelu)(x) for gelu in (False, True)]
    except (RuntimeError, AttributeError):  # operators of torch's own, not promised to users
        return False
    wanted = functional.linear(x, weight, weight[:, 0])
    apart = 0.1 if dtype == torch.bfloat16 else 1e-4
    return all(
        torch.allclose(a, b, rtol=0.02, atol=apart) for a, b in zip(found, (wanted, functional.gelu(wanted)), strict=True)
    )


@torch.no_grad()
def fold(model: Ofa) -> Ofa:
    """Fold BatchNorm, scales and projections into fewer weights, in float32 and in place."""
    _fold_resnet(model.encoder.embed_images)
    for layer in model.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        layer.self_attn = JoinedAttention(layer.self_attn, own=True)
    for layer in model.decoder.layers:
        assert isinstance(layer, DecoderLayer)
        layer.self_attn = JoinedAttention(layer.self_attn, own=True)
        layer.encoder_attn = JoinedAttention(layer.encoder_attn, own=False)
    model.encoder.remember_biases()
    return model.requires_grad_(False)


@torch.no_grad()
def pack(model: Ofa) -> Ofa:
    """Lay the weights of a folded model on the CPU out for oneDNN, in place."""
    model.output = PackedLinear(model.embed_tokens.weight.to(model.dtype), None)
    for layer in (*model.encoder.layers, *model.decoder.layers):
        layer.fc1 = PackedLinear(layer.fc1.weight, layer.fc1.bias, gelu=True)
        layer.activation = nn.Identity()
    _pack_linears(model)
    model.encoder.embed_images.to(memory_format=torch.channels_last)
    return model


def _pack_linears(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child.weight, child.bias))
        else:
            _pack_linears(child)


def _fold_resnet(resnet: ResNet) -> None:
    _fold_pair(resnet, "1")
    for block in (*resnet.layer1, *resnet.layer2, *resnet.layer3):
        assert isinstance(block, Bottleneck)
        for number in "123":
            _fold_pair(block, number)
        if block.downsample is not None:
            block.downsample = nn.Sequential(_fold_norm(*block.downsample))


def _fold_pair(module: nn.Module, number: str) -> None:
    folded = _fold_norm(getattr(module, f"conv{number}"), getattr(module, f"bn{number}"))
    setattr(module, f"conv{number}", folded)
    setattr(module, f"bn{number}", nn.Identity())


def _fold_norm(conv: nn.Module, norm: nn.Module) -> nn.Module:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return torch.nn.utils.fuse_conv_bn_eval(conv, norm)


def _stack(*parts: nn.Linear) -> nn.Linear:
    return linear_of(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))


def linear_of(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """An ``nn.Linear`` of given weights, none of which are drawn at random first."""
    linear = nn.Linear(1, 1, bias=False, device=weight.device)
    linear.in_features, linear.out_features = weight.shape[1], weight.shape[0]
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    linear.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)  # type: ignore[assignment]
    return linear
