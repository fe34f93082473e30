"""The decoder's side of a beam search: buffers of fixed size that one token per beam is written into at each step.

Nothing is copied when beams change places. A beam attends to the keys of all beams of its image, laid side by side, and a mask
lets it see those of its own ancestors. The keys of the image itself are computed once and shared by its beams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.drafting.layers import MASKED, DecoderLayer
from inference.drafting.model import Encoded, Ofa


@dataclass(slots=True, eq=False)
class _Slots:
    """Keys and values of one layer, each (B, H, T, beam, h)."""

    held: tuple[Tensor, Tensor]
    at: Tensor  # int64 (1,), where the next position is written
    span: int = 0  # positions that may be attended to

    def append(self, new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Write (n, H, beam, h) at the present position; what may be attended to is (n, H, span · beam, h)."""
        k, v = (buffer[: len(part)] for buffer, part in zip(self.held, new, strict=True))
        k.index_copy_(2, self.at, new[0].unsqueeze(2))
        v.index_copy_(2, self.at, new[1].unsqueeze(2))
        return k[:, :, : self.span].flatten(2, 3), v[:, :, : self.span].flatten(2, 3)


class Beams:
    """The decoding of B images, of which the first ``n`` still go on, ``beam`` rows each, up to ``length`` positions."""

    def __init__(self, model: Ofa, encoded: Encoded, length: int, beam: int) -> None:
        config, images, dtype = model.config, encoded.out.shape[0], encoded.out.dtype
        device, head = encoded.out.device, config.width // config.heads
        self.model, self.length = model, length
        self.at = torch.zeros(1, dtype=torch.long, device=device)
        room = (images, config.heads, length, beam, head)
        self.slots = [_Slots(_empty(room, encoded), self.at) for _ in model.decoder.layers]
        self.ancestry = torch.empty((images, beam, length, beam), dtype=dtype, device=device)  # 0 or -inf
        others = ~torch.eye(beam, dtype=torch.bool, device=device)[:, None]
        self._itself = torch.zeros((beam, 1, beam), dtype=dtype, device=device).masked_fill(others, MASKED)
        state = model.decoder.begin(encoded, length)
        self.memory = [(k.contiguous(), v.contiguous()) for k, v in state.memory]  # per layer, each (B, H, S, h)
        self.self_bias = torch.stack(state.self_bias)  # (L, H, T, T)
        self.cross_bias = state.cross_bias.contiguous()  # (H, T, S)
        self.padding_bias = state.padding_bias.expand(images, 1, 1, encoded.out.shape[1]).contiguous()
        self._start()

    def _start(self) -> None:
        self.n = len(self.ancestry)
        self.at.zero_()
        self.ancestry.fill_(MASKED)

    def refill(self, encoded: Encoded) -> None:
        """Begin anew with as many other images of the same source length, in the same buffers."""
        state = self.model.decoder.begin(encoded, self.length)
        for held, new in zip(self.memory, state.memory, strict=True):
            held[0].copy_(new[0])
            held[1].copy_(new[1])
        self.cross_bias.copy_(state.cross_bias)
        self.padding_bias.copy_(state.padding_bias.expand_as(self.padding_bias))
        self._start()

    def step(self, tokens: Tensor, span: int) -> Tensor:
        """Features (n · beam, d) after ``tokens``, int64 (n, beam), at the present position, which is below ``span``."""
        n, decoder = self.n, self.model.decoder
        self.ancestry[:n].index_copy_(2, self.at, self._itself.expand(n, -1, -1, -1))
        biases = self.self_bias.index_select(2, self.at)[..., :span]  # (L, H, 1, span)
        biases = biases[:, None, :, :, :, None] + self.ancestry[None, :n, None, :, :span]  # (L, n, H, beam, span, beam)
        cross = self.cross_bias.index_select(1, self.at) + self.padding_bias[:n]  # (n, H, 1, S)
        x = decoder.layernorm_embedding(self.model.embed(tokens))  # (n, beam, d): the beams stand where positions do
        for layer, slots, bias, memory in zip(decoder.layers, self.slots, biases.flatten(4), self.memory, strict=True):
            assert isinstance(layer, DecoderLayer)
            slots.span = span
            x = layer.attend_self(x, slots, bias)
            x = layer.attend_source(x, (memory[0][:n], memory[1][:n]), cross)
            x = layer.feed_forward(x)
        return decoder.layer_norm(x).flatten(0, 1)  # type: ignore[no-any-return]

    def advance(self, parents: Tensor) -> None:
        """Go to the next position; beam i of an image goes on from its beam ``parents[image, i]``, int64 (n, beam)."""
        rows = parents[:, :, None, None].expand(-1, -1, *self.ancestry.shape[2:])
        self.ancestry[: self.n].copy_(self.ancestry[: self.n].gather(1, rows))
        self.at.add_(1)

    def keep(self, order: Sequence[int]) -> None:
        """Go on with ``len(order)`` images, at place i what stands at place ``order[i]``: i itself, or one further back."""
        for slots in self.slots:
            keep(slots.held, order)
        for memory in self.memory:
            keep(memory, order)
        keep((self.ancestry, self.padding_bias), order)
        self.n = len(order)


def keep(buffers: Iterable[Tensor], order: Sequence[int]) -> None:
    """Overwrite rows that leave by later ones: no more is copied than moves."""
    moved = [(place, source) for place, source in enumerate(order) if place != source]
    for buffer in buffers:
        for place, source in moved:
            buffer[place].copy_(buffer[source])


def _empty(shape: tuple[int, ...], like: Encoded) -> tuple[Tensor, Tensor]:
    """Zeros, not whatever the memory held: what is masked still must not be NaN."""
    k, v = (torch.zeros(shape, dtype=like.out.dtype, device=like.out.device) for _ in range(2))
    return k, v
