"""The OFA encoder–decoder of BiomedGPT (Wang et al. 2022, arXiv:2202.03052; Zhang et al. 2024, 10.1038/s41591-024-03185-2).

Module names are those of the original checkpoints, so that a state dict says by itself where each tensor belongs.
Letters in shape comments: see ``layers.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from inference.drafting import positions
from inference.drafting.layers import (
    MASKED,
    DecoderLayer,
    EncoderLayer,
    KeyValueCache,
    OfaConfig,
    padding_bias,
    split_heads,
)
from inference.drafting.resnet import ResNet

BOS: Final = 0
PAD: Final = 1
EOS: Final = 2
UNKNOWN: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What the encoder says of a batch. ``positions`` is the same for all images of one size."""

    out: Tensor  # (B, S, d)
    padding: Tensor  # (B, S) bool, True where there is nothing to attend to
    positions: Tensor  # (1, S, d), layer-normed


@dataclass(slots=True, eq=False)
class DecoderState:
    """Computed once per image (cross keys, biases) and what grows with each token (caches)."""

    memory: list[tuple[Tensor, Tensor]]  # per layer, each (B, H, S, h): shared by the beam rows of an image
    self_bias: list[Tensor]  # per layer, (H, T, T), -inf above the diagonal
    cross_bias: Tensor  # (H, T, S)
    padding_bias: Tensor  # (B, 1, 1, S), or (1, 1, 1, 1) where nothing is padded
    caches: list[KeyValueCache]
    length: int = 0  # target positions in the caches

    def reorder(self, rows: Tensor) -> None:
        """Row i continues from what row ``rows[i]`` was."""
        for cache in self.caches:
            cache.reorder(rows)


class Encoder(nn.Module):
    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.layernorm_embedding = nn.LayerNorm(d)
        self.type_embedding = nn.Embedding(2, d)  # 0 text, 1 image
        self.embed_images = ResNet(config.resnet_layers, config.resnet_width, config.batch_norm_eps)
        self.image_proj = nn.Linear(config.resnet_width * 16, d)
        self.patch_layernorm_embedding = nn.LayerNorm(d)
        self.embed_positions = nn.Embedding(config.max_positions + 2, d)
        self.embed_image_positions = nn.Embedding(config.image_bucket**2 + 1, d)
        self.pos_ln, self.image_pos_ln = nn.LayerNorm(d), nn.LayerNorm(d)
        self.pos_q_linear, self.pos_k_linear = nn.Linear(d, d), nn.Linear(d, d)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(d)
        self.token_rel_pos_table_list = _tables(2 * config.token_bucket - 1, config.heads, config.encoder_layers)
        self.image_rel_pos_table_list = _tables(
            positions.image_bucket_count(config.image_bucket), config.heads, config.encoder_layers
        )
        self._remembered: dict[Any, list[Tensor]] | None = None

    def forward(self, text: Tensor, padding: Tensor, images: Tensor | None, image_present: Tensor | None) -> Encoded:
        """``text``: embedded tokens (B, text, d), ``padding`` (B, text) True where padded; the rest as ``Ofa.encode``."""
        x, length = self.layernorm_embedding(text + self.type_embedding.weight[0]), text.shape[1]
        place = self.pos_ln(self.embed_positions.weight[:length])[None]  # (1, text, d)
        patch_ids = None
        if images is not None:
            patches, patch_ids = self._patches(images)  # (B, patches, d), (patches,)
            hidden = torch.zeros(patches.shape[:2], dtype=torch.bool, device=x.device)
            if image_present is not None:
                hidden = hidden | ~image_present[:, None]
            x, padding = torch.cat([patches, x], dim=1), torch.cat([hidden, padding], dim=1)  # (B, S, d), (B, S)
            place = torch.cat([self.image_pos_ln(self.embed_image_positions(patch_ids))[None], place], dim=1)  # (1, S, d)
        x = x * ~padding[:, :, None]
        hidden_keys = padding_bias(padding, x)
        for layer, bias in zip(self.layers, self._biases(place, patch_ids, length), strict=True):
            x = layer(x, bias + hidden_keys if hidden_keys.shape[0] > 1 else bias)
        return Encoded(self.layer_norm(x), padding, place)

    def remember_biases(self) -> None:
        """Keep the position biases of the last shape of input: for weights that change no more."""
        self._remembered = {}

    def _patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed_images(images)  # (B, 3, side, side) -> (B, 16·width, side/16, side/16)
        ids = positions.patch_positions(self.config.image_bucket, x.shape[2], x.shape[3]).to(x.device)
        x = self.image_proj(x.flatten(2).transpose(1, 2)) + self.type_embedding.weight[1]  # (B, patches, d)
        return self.patch_layernorm_embedding(x), ids

    def _biases(self, place: Tensor, patch_ids: Tensor | None, text: int) -> list[Tensor]:
        """Absolute and relative position bias of each layer, the same for all images: each (1, H, S, S)."""
        key = (text, () if patch_ids is None else tuple(patch_ids.tolist()))
        if self._remembered is not None and key in self._remembered:
            return self._remembered[key]
        absolute = _position_scores(self.pos_q_linear(place), self.pos_k_linear(place), self.config)
        biases = [absolute + relative for relative in self._relative(patch_ids, text)]
        if self._remembered is not None:
            self._remembered = {key: biases}
        return biases

    def _relative(self, patch_ids: Tensor | None, text: int) -> Iterator[Tensor]:
        """Learned bias inside the text–text and the image–image block, zero between them: (1, H, S, S) of each layer."""
        device = self.layer_norm.weight.device
        words = positions.token_buckets(self.config.token_bucket, text).to(device)
        patches = None if patch_ids is None else positions.image_buckets(self.config.image_bucket, patch_ids)
        for of_words, of_patches in zip(self.token_rel_pos_table_list, self.image_rel_pos_table_list, strict=True):
            bias = of_words(words).permute(2, 0, 1)  # (text, text, H) -> (H, text, text)
            if patches is not None:
                n = len(patches)
                image = of_patches(patches).permute(2, 0, 1)  # (H, patches, patches)
                bias = functional.pad(bias, (n, 0, n, 0)) + functional.pad(image, (0, text, 0, text))  # (H, S, S)
            yield bias[None]


class Decoder(nn.Module):
    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.layernorm_embedding, self.code_layernorm_embedding = nn.LayerNorm(d), nn.LayerNorm(d)
        self.embed_positions = nn.Embedding(config.max_positions + 2, d)
        self.embed_image_positions = nn.Embedding(config.image_bucket**2 + 1, d)
        self.pos_ln, self.image_pos_ln = nn.LayerNorm(d), nn.LayerNorm(d)
        self.self_pos_q_linear, self.self_pos_k_linear = nn.Linear(d, d), nn.Linear(d, d)
        self.cross_pos_q_linear, self.cross_pos_k_linear = nn.Linear(d, d), nn.Linear(d, d)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.layer_norm = nn.LayerNorm(d)
        self.token_rel_pos_table_list = _tables(2 * config.token_bucket - 1, config.heads, config.decoder_layers)
        self.image_rel_pos_table_list = _tables(
            positions.image_bucket_count(config.image_bucket), config.heads, config.decoder_layers
        )

    def begin(self, encoded: Encoded, length: int, *, codes: bool = False) -> DecoderState:
        """Prepare to decode up to ``length`` target positions. ``codes``: the target is image codes, not text."""
        place, relative = self._target(length, codes)
        causal = torch.full((length, length), MASKED, device=place.device).triu(1)
        own = _position_scores(self.self_pos_q_linear(place), self.self_pos_k_linear(place), self.config)[0]  # (H, T, T)
        cross = _position_scores(self.cross_pos_q_linear(place), self.cross_pos_k_linear(encoded.positions), self.config)[0]
        return DecoderState(
            memory=[layer.encoder_attn.memory(encoded.out) for layer in self._blocks()],
            self_bias=[own + bias + causal for bias in relative],
            cross_bias=cross,  # (H, T, S)
            padding_bias=padding_bias(encoded.padding, encoded.out),
            caches=[KeyValueCache(self.config.heads) for _ in self.layers],
        )

    def forward(self, target: Tensor, state: DecoderState, *, codes: bool = False) -> Tensor:
        """Features (N, T, d) of the next T embedded target tokens (N, T, d); N is B, or B · beam when T is 1."""
        end = state.length + target.shape[1]
        x = (self.code_layernorm_embedding if codes else self.layernorm_embedding)(target)  # (N, T, d)
        images = state.memory[0][0].shape[0]
        cross = state.cross_bias[:, state.length : end] + state.padding_bias  # (B or 1, H, T, S)
        for layer, memory, cache, bias in zip(self._blocks(), state.memory, state.caches, state.self_bias, strict=True):
            x = layer.attend_self(x, cache, bias[:, state.length : end, :end])
            rows = x.reshape(images, -1, x.shape[2])  # (B · beam, 1, d) -> (B, beam, d): the beams share an image's keys
            x = layer.attend_source(rows, memory, cross).reshape(x.shape)
            x = layer.feed_forward(x)
        state.length = end
        return self.layer_norm(x)  # type: ignore[no-any-return]

    def _blocks(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def _target(self, length: int, codes: bool) -> tuple[Tensor, list[Tensor]]:
        """Position embeddings (1, T, d) and the relative bias of each layer (H, T, T)."""
        device = self.layer_norm.weight.device
        if codes:
            ids = positions.code_positions(self.config.image_bucket, self.config.code_window, length).to(device)
            place, tables = self.image_pos_ln(self.embed_image_positions(ids)), self.image_rel_pos_table_list
            buckets = positions.image_buckets(self.config.image_bucket, ids)
        else:
            place, tables = self.pos_ln(self.embed_positions.weight[:length]), self.token_rel_pos_table_list
            buckets = positions.token_buckets(self.config.token_bucket, length).to(device)
        return place[None], [table(buckets).permute(2, 0, 1) for table in tables]  # (T, T, H) -> (H, T, T)


class SearchRecorder(Protocol):
    """See ``graphs.Recorder``."""

    def generate(self, model: Ofa, encoded: Encoded, settings: Any, tokens: Any) -> list[list[Any]]: ...


class Ofa(nn.Module):
    """Encoder, decoder, and one embedding matrix for source, target and output."""

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width, padding_idx=PAD)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.recorder: SearchRecorder | None = None  # where searches are recorded as CUDA graphs
        self.output: nn.Module | None = None  # the embedding matrix packed for the processor, where that is faster

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic. The embedding matrix itself may be kept more exactly."""
        return self.decoder.layer_norm.weight.dtype

    def encode(self, tokens: Tensor, images: Tensor | None = None, image_present: Tensor | None = None) -> Encoded:
        """Encode a batch, once per image.

        ``tokens``: int64 (B, text), padded at the end with 1. ``images``: float (B, 3, side, side), normalised, side a
        multiple of 16 and at most 16 · image_bucket. ``image_present``: bool (B,); False hides that row's image.
        The sequence is [patches, text].
        """
        if images is not None:
            images = images.to(self.dtype)
        return self.encoder(self.embed(tokens), tokens == PAD, images, image_present)  # type: ignore[no-any-return]

    def decode(self, tokens: Tensor, state: DecoderState, *, codes: bool = False) -> Tensor:
        """Logits (N, T, V) after each of the next T ``tokens``, int64 (N, T); the first ever is 0."""
        return self.project(self.decoder(self.embed(tokens), state, codes=codes))  # (N, T) -> (N, T, d) -> (N, T, V)

    def embed(self, tokens: Tensor) -> Tensor:
        """(N, T) -> (N, T, d), in the model's own precision."""
        return self.embed_tokens(tokens).to(self.dtype)  # type: ignore[no-any-return]

    def project(self, features: Tensor) -> Tensor:
        """Logits of features, float32 (float64 for a model in float64): (N, T, d) -> (N, T, V)."""
        logits = functional.linear(features, self.embed_tokens.weight) if self.output is None else self.output(features)
        return logits if logits.dtype == torch.float64 else logits.float()

    def forward(self, tokens: Tensor, images: Tensor | None, target: Tensor) -> Tensor:
        """Teacher forcing: logits (B, T, V) after each of ``target``, int64 (B, T)."""
        return self.decode(target, self.decoder.begin(self.encode(tokens, images), target.shape[1]))


class _NoInitialValues(TorchFunctionMode):
    """Skips torch.nn.init. The meta device would too, at the price of 900 imported modules and two seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def empty_model(config: OfaConfig) -> Ofa:
    """A model whose weights are still to come: their values are whatever the memory held."""
    with _NoInitialValues():
        return Ofa(config).eval()


def _position_scores(q: Tensor, k: Tensor, config: OfaConfig) -> Tensor:
    """Position–position scores of (1, T, d) and (1, S, d): (1, H, T, S)."""
    return (split_heads(q, config.heads) * config.scale) @ split_heads(k, config.heads).transpose(2, 3)


def _tables(rows: int, heads: int, layers: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Embedding(rows, heads) for _ in range(layers))
