"""Rewrite a loaded model so that it computes the same with less work: once, when it is loaded, never for training.

BatchNorm goes into the convolution before it; the three projections of self-attention become one, as do keys and values of
cross-attention; the scale of the queries and of each head goes into the weights. On the CPU, weights are laid out once the way
oneDNN multiplies by them, which it would otherwise do at every token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inference.drafting.layers import Attention, DecoderLayer, EncoderLayer, Memory, attend, split_heads
from inference.drafting.model import Ofa
from inference.drafting.packed import PackedBottleneck, PackedConvolution, PackedLinear, PackedNorm
from inference.drafting.resnet import Bottleneck, ResNet


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
        return self.query_proj(x)  # type: ignore[no-any-return]

    def memory(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert self.memory_proj is not None
        k, v = self.memory_proj(x).chunk(2, dim=-1)  # (B, S, 2d) -> 2 × (B, S, d)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def own(self, x: Tensor) -> Tensor:
        assert self.own_proj is not None
        return self.own_proj(x)  # type: ignore[no-any-return]

    def join(self, y: Tensor) -> Tensor:
        return self.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class PackedDecoderLayer(DecoderLayer):
    """``DecoderLayer`` of packed parts, within reach: looking each up in its module takes as long as a small product."""

    def __init__(self, layer: DecoderLayer) -> None:
        nn.Module.__init__(self)
        own, source = layer.self_attn, layer.encoder_attn
        assert isinstance(own, JoinedAttention)
        assert isinstance(source, JoinedAttention)
        self.encoder_attn = source  # for keys and values of the source
        self._own = (layer.self_attn_layer_norm, own.own_proj, own.out_proj, layer.self_attn_ln)
        self._source = (layer.encoder_attn_layer_norm, source.query_proj, source.out_proj, layer.cross_attn_ln)
        self._feed = (layer.final_layer_norm, layer.fc1, layer.ffn_layernorm, layer.fc2)

    def attend_self(self, x: Tensor, cache: Memory, bias: Tensor) -> Tensor:
        norm, project, out, after = self._own
        assert project is not None
        own = project(norm(x))
        return x + after(out(attend(own, cache.append(own), bias).transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]

    def attend_source(self, x: Tensor, memory: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        norm, project, out, after = self._source
        assert project is not None
        return x + after(out(attend(project(norm(x)), memory, bias).transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]

    def feed_forward(self, x: Tensor) -> Tensor:
        norm, up, between, down = self._feed
        return down.onto(x, between(up(norm(x))))  # type: ignore[operator, no-any-return]


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
    layers = model.decoder.layers
    for layer in (*model.encoder.layers, *layers):
        for name, norm in [(name, part) for name, part in layer.named_children() if isinstance(part, nn.LayerNorm)]:
            setattr(layer, name, PackedNorm(norm))
    model.decoder.layers = nn.ModuleList(PackedDecoderLayer(layer) for layer in layers if isinstance(layer, DecoderLayer))
    _pack_resnet(model.encoder.embed_images)
    return model


def _pack_resnet(resnet: ResNet) -> None:
    resnet.to(memory_format=torch.channels_last)
    for name, packed in (("conv1", PackedConvolution(resnet.conv1, relu=True)), ("relu", nn.Identity())):
        setattr(resnet, name, packed)
    for stage in (resnet.layer1, resnet.layer2, resnet.layer3):
        for place, block in enumerate(stage):
            assert isinstance(block, Bottleneck)
            stage[place] = PackedBottleneck(block)


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
