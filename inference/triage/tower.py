"""A vision transformer's published weights in one common form, and a tower that runs them in half precision.

The published towers (timm's and open_clip's ViT) stay the reference; this one is for speed and is used only behind the gate of
``parity``. What it saves: one product for query, key and value; activation and residual inside the products where oneDNN offers
it; layer scale folded into the weights; grey and colour normalisation folded into the patch embedding, which therefore takes
the pixels themselves (-128..127 is exact in bfloat16) and, of a grey film, one channel in place of three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

_CHUNK: Final = {"cpu": 8, "cuda": 1024}  # images at once: on a CPU what lies between two layers should stay in the cache
_MIDDLE: Final = 128  # taken from every pixel: smaller numbers lose less in half precision


@dataclass(frozen=True, slots=True)
class Affine:
    """A linear map, float32: ``weight`` (out, in), ``bias`` (out)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm over the width."""

    weight: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """A pre-norm transformer block: ``qkv`` (3 * width, width), ``out``, ``rise`` (hidden, width), ``fall``."""

    norm1: Norm
    qkv: Affine
    out: Affine
    norm2: Norm
    rise: Affine
    fall: Affine


@dataclass(frozen=True, slots=True)
class TowerPlan:
    """All of an image tower in float32.

    ``patch``: (width, 3, side, side) on normalised pixels. ``prefix``: tokens before the patches, (k, width). ``positions``:
    (k + patches, width). ``pool``: the first token, or the mean of the patches. ``head``: to the shared space.
    """

    patch: Affine
    prefix: Tensor
    positions: Tensor
    norm_pre: Norm | None
    blocks: tuple[BlockPlan, ...]
    norm_post: Norm
    norm_after_pool: bool
    pool: Literal["token", "avg"]
    head: Affine
    heads: int
    activation: Literal["gelu", "quick_gelu"]


class Dense:
    """A linear layer of one dtype on any device, with what often follows it."""

    def __init__(self, plan: Affine, device: torch.device, dtype: torch.dtype) -> None:
        self._weight = plan.weight.to(device, dtype).contiguous()
        self._bias = plan.bias.to(device, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)

    def activated(self, x: Tensor, activation: str) -> Tensor:
        y = self(x)
        return F.gelu(y) if activation == "gelu" else F.silu(y)

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        return self(x).add_(residual)


class PackedDense(Dense):
    """The same by oneDNN on the CPU: weights laid out once for its kernels, activation and addition within the product."""

    def __init__(self, plan: Affine, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(plan, device, dtype)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight)

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y

    def activated(self, x: Tensor, activation: str) -> Tensor:
        name, algorithm = ("gelu", "none") if activation == "gelu" else ("swish", "")
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, name, [], algorithm)
        return y

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._weight, self._bias, "add")
        return y


def packs(device: torch.device) -> bool:
    """Whether oneDNN multiplies bfloat16 on this machine and torch offers its packed products."""
    return (
        device.type == "cpu"
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


class FastTower:
    """An image tower in half precision. One thread owns it.

    ``normalised``: float32 (256, 3), what the model's own preprocessing makes of each grey value in each channel.
    """

    def __init__(self, plan: TowerPlan, normalised: Tensor, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> None:
        make = PackedDense if packs(device) else Dense
        self._chunk = _CHUNK.get(device.type, _CHUNK["cpu"])
        self._device, self._dtype = device, dtype
        self._heads, self._side = plan.heads, plan.patch.weight.shape[-1]
        self._patch = {channels: Dense(_on_pixels(plan.patch, normalised, channels), device, dtype) for channels in (1, 3)}
        prefix = len(plan.prefix)
        self._prefix = (plan.prefix + plan.positions[:prefix]).to(device, dtype)
        self._positions = plan.positions[prefix:].to(device, dtype)
        self._norm_pre = self._norm(plan.norm_pre) if plan.norm_pre else None
        self._blocks = [self._block(block, plan.activation, make) for block in plan.blocks]
        self._activation = plan.activation
        self._post = self._norm(plan.norm_post, torch.float32)
        self._pool, self._norm_after_pool = plan.pool, plan.norm_after_pool
        self._head = Dense(plan.head, device, torch.float32)  # one row an image: float32 costs nothing here

    def __call__(self, pixels: Tensor) -> Tensor:
        """``pixels``: uint8 (n, 1 or 3, size, size) on the tower's device, to unit embeddings, float32 (n, width)."""
        return torch.cat([self._run(part) for part in torch.split(pixels, self._chunk)])

    def _run(self, pixels: Tensor) -> Tensor:
        tokens = self._tokens(pixels)  # (n, prefix + patches, width)
        if self._norm_pre:
            tokens = self._norm_pre(tokens)
        for block in self._blocks:
            tokens = self._attend(block, tokens)
            rise = block["rise"].activated(block["norm2"](tokens), self._activation)  # (n, tokens, hidden)
            tokens = block["fall"].added(rise, tokens)
        return F.normalize(self._head(self._pooled(tokens)), dim=-1)

    def _tokens(self, pixels: Tensor) -> Tensor:
        n, channels, height, width = pixels.shape
        side, rows, columns = self._side, height // self._side, width // self._side
        cut = pixels.view(n, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
        flat = cut.reshape(n, rows * columns, channels * side * side).to(self._dtype).sub_(_MIDDLE)  # (n, patches, pixels)
        patches = self._patch[channels](flat) + self._positions
        return torch.cat([self._prefix.expand(n, -1, -1), patches], dim=1)

    def _attend(self, block: dict[str, Any], tokens: Tensor) -> Tensor:
        n, length, width = tokens.shape
        joined = block["qkv"](block["norm1"](tokens)).view(n, length, 3, self._heads, -1)  # (n, tokens, 3, heads, head)
        query, key, value = joined.permute(2, 0, 3, 1, 4)  # each (n, heads, tokens, head)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, length, width)
        after: Tensor = block["out"].added(mixed, tokens)
        return after

    def _pooled(self, tokens: Tensor) -> Tensor:
        """(n, width), float32."""
        kept = tokens[:, :1] if self._pool == "token" else tokens[:, len(self._prefix) :]
        if self._norm_after_pool:
            return self._post(kept.float().mean(dim=1))
        return self._post(kept.float()).mean(dim=1)

    def _norm(self, plan: Norm, dtype: torch.dtype | None = None) -> Callable[[Tensor], Tensor]:
        weight, bias = (tensor.to(self._device, dtype or self._dtype) for tensor in (plan.weight, plan.bias))

        def normed(x: Tensor) -> Tensor:
            return F.layer_norm(x, weight.shape, weight, bias, plan.eps)

        return normed

    def _block(self, plan: BlockPlan, activation: str, make: type[Dense]) -> dict[str, Any]:
        rise, fall = (plan.rise, plan.fall) if activation == "gelu" else _as_swish(plan.rise, plan.fall)
        dense = {"qkv": plan.qkv, "out": plan.out, "rise": rise, "fall": fall}
        layers = {name: make(affine, self._device, self._dtype) for name, affine in dense.items()}
        return {**layers, "norm1": self._norm(plan.norm1), "norm2": self._norm(plan.norm2)}


def _on_pixels(patch: Affine, normalised: Tensor, channels: int) -> Affine:
    """The patch embedding as a linear map on (pixel - 128), uint8; worked out in float64.

    A normalised pixel is slope * pixel + offset in each channel; of a grey film the three channels are one.
    """
    weight, table = patch.weight.double(), normalised.double()  # (width, 3, side, side), (256, 3)
    slope, middle = (table[-1] - table[0]) / 255, table[_MIDDLE]  # (3,)
    scaled = weight * slope.view(1, 3, 1, 1)
    bias = patch.bias.double() + (weight * middle.view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    joined = scaled.sum(dim=1, keepdim=True) if channels == 1 else scaled
    return Affine(joined.flatten(1).float(), bias.float())


def _as_swish(rise: Affine, fall: Affine) -> tuple[Affine, Affine]:
    """Quick GELU, x * sigmoid(1.702 x), as swish(1.702 x) / 1.702."""
    factor = 1.702
    return Affine(rise.weight * factor, rise.bias * factor), Affine(fall.weight / factor, fall.bias)
