"""What a vision transformer's attention is, and how a score would change with it: the two things a heat map is made of.

The towers of BiomedCLIP (timm) and CLIP (open_clip) compute attention inside a fused kernel that never shows its weights. They
are computed again here from what each attention module was given, and their gradient from the gradient of what it gave: the
model itself runs as it always does. Tests hold both against the modules' own output and against autograd.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Attention
from torch import nn

from inference.errors import BundleError


@dataclass(frozen=True, slots=True, eq=False)
class Tower:
    """A vision transformer inside an open_clip model. ``grid``: rows and columns of patches; ``prefix``: tokens before them."""

    blocks: tuple[nn.Module, ...]
    attentions: tuple[nn.Module, ...]
    grid: tuple[int, int]
    prefix: int


@dataclass(slots=True, eq=False)
class Trace:
    """What the upper blocks did on the way to a score, block by block, and the tokens that came out, (n, tokens, width)."""

    given: dict[int, torch.Tensor]
    gave: dict[int, torch.Tensor]
    last: torch.Tensor | None = None


def open_tower(net: Any) -> Tower:
    """Find the blocks of ``net.visual``. Raises BundleError where its image tower is of no kind that can be looked into."""
    visual = net.visual
    if hasattr(visual, "trunk") and hasattr(visual.trunk, "blocks"):
        blocks, grid, prefix = tuple(visual.trunk.blocks), visual.trunk.patch_embed.grid_size, visual.trunk.num_prefix_tokens
    elif hasattr(visual, "transformer") and hasattr(visual.transformer, "resblocks"):
        blocks, grid, prefix = tuple(visual.transformer.resblocks), visual.grid_size, 1
    else:
        raise BundleError("this model's image tower is no vision transformer: there are no heat maps; set heat_maps: false")
    attentions = tuple(getattr(block, "attn", block) for block in blocks)
    if not all(map(_known, attentions)):
        raise BundleError("this model's attention is of a form without heat maps; set heat_maps: false for this reading")
    return Tower(blocks, attentions, (int(grid[0]), int(grid[1])), int(prefix))


@contextmanager
def traced(tower: Tower, first: int) -> Iterator[Trace]:
    """While open, a forward pass in gradient mode leaves what the blocks from ``first`` on did; nothing before is traced."""
    trace = Trace({}, {})

    def cut(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (given[0].detach().requires_grad_(True), *given[1:])

    def keep(_: nn.Module, __: object, out: torch.Tensor) -> None:
        trace.last = out

    hooks = [tower.blocks[first].register_forward_pre_hook(cut), tower.blocks[-1].register_forward_hook(keep)]
    hooks += [tower.attentions[k].register_forward_hook(_keeper(trace, k)) for k in range(first, len(tower.blocks))]
    try:
        yield trace
    finally:
        for hook in hooks:
            hook.remove()


def _keeper(trace: Trace, number: int) -> Any:
    def keep(_: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        trace.given[number] = given[0].detach()
        trace.gave[number] = out[0] if isinstance(out, tuple) else out

    return keep


def weigh(attention: nn.Module, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention weights (n, heads, tokens, tokens), rows summing to 1, and values (n, heads, tokens, width / heads)."""
    query, key, value = _query_key_value(attention, given)
    return torch.softmax(query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5, dim=-1), value


def weight_gradient(attention: nn.Module, value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Gradient of a score by the attention weights, (n, heads, tokens, tokens), from that by the module's output.

    The output is ``(weights @ value)``, heads side by side, times the projection: two products turned round give it.
    """
    inner = gradient @ _projection(attention).weight  # (n, tokens, width)
    return _split_heads(inner, value.shape[1]) @ value.transpose(-2, -1)


def _known(attention: nn.Module) -> bool:
    if isinstance(attention, Attention):
        return attention.gate is None and isinstance(attention.norm, nn.Identity)
    if isinstance(attention, nn.MultiheadAttention):
        return attention.batch_first and attention.in_proj_weight is not None and attention.bias_k is None
    return False


def _query_key_value(attention: nn.Module, given: torch.Tensor) -> Sequence[torch.Tensor]:
    if isinstance(attention, Attention):
        parts = [_split_heads(part, attention.num_heads) for part in attention.qkv(given).chunk(3, dim=-1)]
        return [attention.q_norm(parts[0]), attention.k_norm(parts[1]), parts[2]]
    assert isinstance(attention, nn.MultiheadAttention)
    whole = nn.functional.linear(given, attention.in_proj_weight, attention.in_proj_bias)  # (n, tokens, 3 width)
    return [_split_heads(part, attention.num_heads) for part in whole.chunk(3, dim=-1)]


def _projection(attention: nn.Module) -> nn.Linear:
    projection = attention.proj if isinstance(attention, Attention) else attention.out_proj
    assert isinstance(projection, nn.Linear)
    return projection


def _split_heads(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    return tokens.reshape(*tokens.shape[:2], heads, -1).transpose(1, 2)  # (n, heads, tokens, width / heads)
