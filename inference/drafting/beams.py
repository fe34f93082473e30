"""The decoder's side of a beam search: buffers of fixed size that one token per beam is written into at each step.

Nothing is copied when beams change places. A beam attends to the keys of all beams of its image, laid side by side, and a mask
lets it see those of its own ancestors. The keys of the image itself are computed once and shared by its beams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from inference.drafting.layers import MASKED, DecoderLayer
from inference.drafting.model import Encoded, Ofa


class _Slots:
    """Keys and values of one layer."""

    def __init__(self, room: tuple[int, ...], at: Tensor, like: Tensor) -> None:
        """``room``: (B, H, T, beam, h). ``at``: int64 (1,), where the next position is written."""
        # Zeros, not whatever the memory held: what is masked still must not be NaN.
        self.held = torch.zeros((2, *room), dtype=like.dtype, device=like.device)
        self._at = at
        self.look(room[0], room[2])

    def look(self, n: int, span: int) -> None:
        """From now on write for the first ``n`` images, and attend to their positions below ``span``."""
        self._written = self.held[:, :n]  # (2, n, H, T, beam, h)
        k, v = self._written[:, :, :, :span].flatten(3, 4).unbind(0)
        self._seen = k, v  # each (n, H, span · beam, h)

    def append(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values in (n, beam, 3d) at the present position; what may be attended to."""
        _, n, heads, _, beam, head = self._written.shape
        d = heads * head
        shape, strides = (2, n, heads, 1, beam, head), (d, beam * 3 * d, head, 0, 3 * d, 1)
        self._written.index_copy_(3, self._at, own.as_strided(shape, strides, own.storage_offset() + d))
        return self._seen


class Beams:
    """The decoding of B images, of which the first ``n`` still go on, ``beam`` rows each, up to ``length`` positions."""

    def __init__(self, model: Ofa, encoded: Encoded, length: int, beam: int) -> None:
        config, images, dtype = model.config, encoded.out.shape[0], encoded.out.dtype
        device, head = encoded.out.device, config.width // config.heads
        self.model, self.length = model, length
        self.at = torch.zeros(1, dtype=torch.long, device=device)
        room = (images, config.heads, length, beam, head)
        self.slots = [_Slots(room, self.at, encoded.out) for _ in model.decoder.layers]
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
        self._look(self.n, self.length)
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

    def _look(self, n: int, span: int) -> None:
        """Cut the buffers to what the next steps use: few of the many, so that a step itself cuts nothing."""
        self._seen = n, span
        for slots in self.slots:
            slots.look(n, span)
        self._sources = [(k[:n], v[:n]) for k, v in self.memory]
        self._source_bias = self.padding_bias[:n]
        self._ancestors = self.ancestry[:n]  # (n, beam, T, beam)
        self._ancestors_seen = self._ancestors[None, :, None, :, :span]  # (1, n, 1, beam, span, beam)
        self._self_bias = self.self_bias[:, None, :, :, :span, None]  # (L, 1, H, T, span, 1)

    def step(self, tokens: Tensor, span: int) -> Tensor:
        """Features (n · beam, d) after ``tokens``, int64 (n, beam), at the present position, which is below ``span``."""
        decoder = self.model.decoder
        if self._seen != (self.n, span):
            self._look(self.n, span)
        self._ancestors.index_copy_(2, self.at, self._itself.expand(self.n, -1, -1, -1))
        biases = self._self_bias.index_select(3, self.at) + self._ancestors_seen  # (L, n, H, beam, span, beam)
        cross = self.cross_bias.index_select(1, self.at) + self._source_bias  # (n, H, 1, S)
        x = decoder.layernorm_embedding(self.model.embed(tokens))  # (n, beam, d): the beams stand where positions do
        for layer, slots, bias, memory in zip(decoder.layers, self.slots, biases.flatten(4), self._sources, strict=True):
            assert isinstance(layer, DecoderLayer)
            x = layer.attend_self(x, slots, bias)
            x = layer.attend_source(x, memory, cross)
            x = layer.feed_forward(x)
        return decoder.layer_norm(x).flatten(0, 1)  # type: ignore[no-any-return]

    def advance(self, parents: Tensor) -> None:
        """Go to the next position; beam i of an image goes on from its beam ``parents[image, i]``, int64 (n, beam)."""
        rows = parents[:, :, None, None].expand_as(self._ancestors)
        self._ancestors.copy_(self._ancestors.gather(1, rows))
        self.at.add_(1)

    def keep(self, order: Sequence[int]) -> None:
        """Go on with ``len(order)`` images, at place i what stands at place ``order[i]``: i itself, or one further back."""
        for slots in self.slots:
            keep(slots.held, order)  # keys, then values
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
