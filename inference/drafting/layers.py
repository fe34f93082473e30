"""The blocks OFA is built of: attention with a scale per head, an encoder layer, a decoder layer.

Letters in shape comments here and in ``model.py``: B images, N rows of a beam (B · beam), S source positions (patches, then
text), T target positions, d width, H heads, h head width (d / H), f feed-forward width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED: Final = float("-inf")
PATCH_STRIDE: Final = 16  # pixels of a preprocessed image per patch: the stride of the image front


@dataclass(frozen=True, slots=True)
class OfaConfig:
    """Everything that decides the shapes of the weights and the arithmetic on them.

    ``image_bucket``: side of the largest patch grid; an image is at most 16 · image_bucket pixels wide.
    ``code_window``: side of the grid of image codes the decoder can write.
    """

    vocabulary: int
    width: int
    feed_forward: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    resnet_layers: tuple[int, int, int] = (3, 4, 6)
    resnet_width: int = 64
    image_bucket: int = 42
    token_bucket: int = 256
    max_positions: int = 1024
    code_window: int = 16
    attention_scale_factor: float = 2.0
    batch_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be shared by {self.heads} heads")

    @property
    def scale(self) -> float:
        """Of queries: (head width · factor)^-0.5, the factor 2 because content and position scores are added."""
        return float((self.width / self.heads * self.attention_scale_factor) ** -0.5)


@dataclass(slots=True, eq=False)
class KeyValueCache:
    """Keys and values of the target positions so far, one pair per beam row."""

    held: tuple[Tensor, Tensor] | None = None  # each (N, H, t, h)

    def append(self, new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if self.held is not None:
            new = torch.cat([self.held[0], new[0]], dim=2), torch.cat([self.held[1], new[1]], dim=2)
        self.held = new
        return new

    def reorder(self, rows: Tensor) -> None:
        if self.held is not None:
            self.held = self.held[0][rows], self.held[1][rows]


class Attention(nn.Module):
    """Multi-head attention with one learned scale per head (``c_attn``), applied before the output projection."""

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        d = config.width
        self.heads, self.scale = config.heads, config.scale
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(d, d) for _ in range(4))
        self.c_attn = nn.Parameter(torch.ones(config.heads))

    def memory(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of (B, S, d), each (B, H, S, h)."""
        return split_heads(self.k_proj(x), self.heads), split_heads(self.v_proj(x), self.heads)

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """``bias``: broadcastable to (B, H, T, S), -inf where attention is forbidden."""
        q = split_heads(self.q_proj(x) * self.scale, self.heads)  # (B, T, d) -> (B, H, T, h)
        y = functional.scaled_dot_product_attention(q, *memory, attn_mask=bias.to(q.dtype), scale=1.0)  # (B, H, T, h)
        y = y * self.c_attn[:, None, None]
        return self.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # (B, H, T, h) -> (B, T, d)


class EncoderLayer(nn.Module):
    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        d, f = config.width, config.feed_forward
        self.self_attn_layer_norm = nn.LayerNorm(d)
        self.self_attn = Attention(config)
        self.attn_ln = nn.LayerNorm(d)
        self.final_layer_norm = nn.LayerNorm(d)
        self.fc1, self.ffn_layernorm, self.fc2 = nn.Linear(d, f), nn.LayerNorm(f), nn.Linear(f, d)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        y = self.self_attn_layer_norm(x)
        x = x + self.attn_ln(self.self_attn(y, self.self_attn.memory(y), bias))
        y = functional.gelu(self.fc1(self.final_layer_norm(x)))  # (B, S, d) -> (B, S, f)
        return x + self.fc2(self.ffn_layernorm(y))  # type: ignore[no-any-return]  # (B, S, f) -> (B, S, d)


class DecoderLayer(nn.Module):
    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        d, f = config.width, config.feed_forward
        self.self_attn_layer_norm = nn.LayerNorm(d)
        self.self_attn = Attention(config)
        self.self_attn_ln = nn.LayerNorm(d)
        self.encoder_attn_layer_norm = nn.LayerNorm(d)
        self.encoder_attn = Attention(config)
        self.cross_attn_ln = nn.LayerNorm(d)
        self.final_layer_norm = nn.LayerNorm(d)
        self.fc1, self.ffn_layernorm, self.fc2 = nn.Linear(d, f), nn.LayerNorm(f), nn.Linear(f, d)

    def attend_self(self, x: Tensor, cache: KeyValueCache, bias: Tensor) -> Tensor:
        y = self.self_attn_layer_norm(x)
        memory = cache.append(self.self_attn.memory(y))
        return x + self.self_attn_ln(self.self_attn(y, memory, bias))  # type: ignore[no-any-return]

    def attend_source(self, x: Tensor, memory: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        return x + self.cross_attn_ln(self.encoder_attn(self.encoder_attn_layer_norm(x), memory, bias))  # type: ignore[no-any-return]

    def feed_forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.fc1(self.final_layer_norm(x)))  # (N, T, d) -> (N, T, f)
        return x + self.fc2(self.ffn_layernorm(y))  # type: ignore[no-any-return]  # (N, T, f) -> (N, T, d)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, S, d) -> (B, H, S, h)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def padding_bias(padding: Tensor, like: Tensor) -> Tensor:
    """-inf at padded keys: (B, 1, 1, S); a single 0 where nothing is padded, so that biases stay one copy for the batch."""
    if not bool(padding.any()):
        return torch.zeros(1, 1, 1, 1, dtype=like.dtype, device=like.device)
    bias = torch.zeros(padding.shape, dtype=like.dtype, device=like.device)
    return bias.masked_fill(padding, MASKED)[:, None, None, :]
