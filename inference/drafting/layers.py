"""The blocks OFA is built of: attention with a scale per head, an encoder layer, a decoder layer.

Letters in shape comments here and in ``model.py``: B images, N rows of a beam (B · beam), S source positions (patches, then
text), T target positions, d width, H heads, h head width (d / H), f feed-forward width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

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


class Memory(Protocol):
    """Where a decoder layer keeps the keys and values of the target."""

    def append(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of the newest positions, which stand behind the queries in (N, T, 3d).

        What may be attended to comes back: keys and values, each (N, H, t, h).
        """
        ...


@dataclass(slots=True, eq=False)
class KeyValueCache:
    """Keys and values of the target positions so far, one row per beam row."""

    heads: int
    held: Tensor | None = None  # (N, t, 2d)

    def append(self, own: Tensor) -> tuple[Tensor, Tensor]:
        new = own[..., own.shape[2] // 3 :]
        self.held = new if self.held is None else torch.cat([self.held, new], dim=1)
        k, v = self.held.chunk(2, dim=2)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def reorder(self, rows: Tensor) -> None:
        if self.held is not None:
            self.held = self.held[rows]


class Attention(nn.Module):
    """Multi-head attention with one learned scale per head (``c_attn``), applied before the output projection."""

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        d = config.width
        self.heads, self.scale = config.heads, config.scale
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(d, d) for _ in range(4))
        self.c_attn = nn.Parameter(torch.ones(config.heads))

    def query(self, x: Tensor) -> Tensor:
        """Scaled queries of (B, T, d): (B, T, d)."""
        return self.q_proj(x) * self.scale  # type: ignore[no-any-return]

    def memory(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of (B, S, d), each (B, H, S, h)."""
        return split_heads(self.k_proj(x), self.heads), split_heads(self.v_proj(x), self.heads)

    def own(self, x: Tensor) -> Tensor:
        """Scaled queries, keys and values of one sequence (B, T, d), side by side: (B, T, 3d)."""
        return torch.cat([self.query(x), self.k_proj(x), self.v_proj(x)], dim=-1)

    def mix(self, rows: Tensor, memory: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """What queries find in keys and values (B, H, S, h): (B, T, d).

        ``rows``: contiguous, (B, T, d or more), queries first. ``bias``: broadcastable to (B, H, T, S).
        """
        return self.join(attend(rows, memory, bias))

    def join(self, y: Tensor) -> Tensor:
        """(B, H, T, h) -> (B, T, d)."""
        y = y * self.c_attn[:, None, None]
        return self.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        d, f = config.width, config.feed_forward
        self.self_attn_layer_norm = nn.LayerNorm(d)
        self.self_attn = Attention(config)
        self.attn_ln = nn.LayerNorm(d)
        self.final_layer_norm = nn.LayerNorm(d)
        self.fc1, self.ffn_layernorm, self.fc2 = nn.Linear(d, f), nn.LayerNorm(f), nn.Linear(f, d)
        self.activation = nn.GELU()

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        y = self.self_attn_layer_norm(x)
        own = self.self_attn.own(y)
        _, k, v = own.chunk(3, dim=-1)  # (B, S, 3d) -> 3 × (B, S, d)
        memory = split_heads(k, self.self_attn.heads), split_heads(v, self.self_attn.heads)
        x = x + self.attn_ln(self.self_attn.mix(own, memory, bias))
        y = self.activation(self.fc1(self.final_layer_norm(x)))  # (B, S, d) -> (B, S, f)
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
        self.activation = nn.GELU()

    def attend_self(self, x: Tensor, cache: Memory, bias: Tensor) -> Tensor:
        own = self.self_attn.own(self.self_attn_layer_norm(x))
        return x + self.self_attn_ln(self.self_attn.mix(own, cache.append(own), bias))  # type: ignore[no-any-return]

    def attend_source(self, x: Tensor, memory: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        q = self.encoder_attn.query(self.encoder_attn_layer_norm(x))
        return x + self.cross_attn_ln(self.encoder_attn.mix(q, memory, bias))  # type: ignore[no-any-return]

    def feed_forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.fc1(self.final_layer_norm(x)))  # (N, T, d) -> (N, T, f)
        return x + self.fc2(self.ffn_layernorm(y))  # type: ignore[no-any-return]  # (N, T, f) -> (N, T, d)


def attend(rows: Tensor, memory: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
    """``Attention.mix`` before heads are joined: (B, H, T, h)."""
    k, v = memory
    head = k.shape[3]
    # One call in place of a slice, a view and a transposition: a step of the decoder is made of hundreds of such.
    q = rows.as_strided((*rows.shape[:2], k.shape[1], head), (*rows.stride()[:2], head, 1)).transpose(1, 2)
    if bias.dtype != q.dtype:
        bias = bias.to(q.dtype)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, S, d) -> (B, H, S, h)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def padding_bias(padding: Tensor, like: Tensor) -> Tensor:
    """-inf at padded keys: (B, 1, 1, S); a single 0 where nothing is padded, so that biases stay one copy for the batch."""
    if not bool(padding.any()):
        return torch.zeros(1, 1, 1, 1, dtype=like.dtype, device=like.device)
    bias = torch.zeros(padding.shape, dtype=like.dtype, device=like.device)
    return bias.masked_fill(padding, MASKED)[:, None, None, :]
