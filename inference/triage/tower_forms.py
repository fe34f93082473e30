"""Published image towers, timm's and open_clip's vision transformers, read into one plan.

A tower of another form gives no plan and runs as published. Where a difference of form is overlooked here, the outcome differs
and the gate of ``parity`` refuses the plan.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.model import QuickGELU, VisionTransformer
from open_clip.timm_model import TimmModel
from timm.layers import Attention as TimmAttention
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from inference.triage.tower import Affine, BlockPlan, Norm, TowerPlan


class _OtherFormError(Exception):
    """The tower is of a form that is not known here."""


def plan_of(visual: nn.Module) -> TowerPlan | None:
    """The plan of a published image tower, or None where its form is not one of those known here."""
    try:
        with torch.no_grad():
            return _of_timm(visual) if type(visual) is TimmModel else _of_open_clip(visual)
    except (_OtherFormError, AttributeError, IndexError, TypeError, ValueError):  # an attribute that another form does not have
        return None


def _of_timm(visual: Any) -> TowerPlan:
    trunk = visual.trunk
    _require(type(trunk) is TimmVisionTransformer and trunk.attn_pool is None and trunk.global_pool in ("token", "avg"))
    _require(isinstance(trunk.patch_embed.norm, nn.Identity) and not trunk.pool_include_prefix)
    _require([name for name, _ in visual.head.named_children() if name != "drop"] == ["proj"])
    prefix = [_held(token.flatten(0, 1)) for token in (trunk.cls_token, trunk.reg_token) if token is not None]
    prefixed = torch.cat(prefix) if prefix else torch.zeros(0, trunk.embed_dim)  # (prefix, width)
    after = not isinstance(trunk.fc_norm, nn.Identity)
    positions = _held(trunk.pos_embed[0])
    if trunk.no_embed_class:
        positions = torch.cat([torch.zeros_like(prefixed), positions])
    return TowerPlan(
        patch=_affine(trunk.patch_embed.proj),
        prefix=prefixed,
        positions=positions,
        norm_pre=_norm_or_none(trunk.norm_pre),
        blocks=tuple(_timm_block(block) for block in trunk.blocks),
        norm_post=_norm(trunk.fc_norm if after else trunk.norm),
        norm_after_pool=after,
        pool=trunk.global_pool,
        head=_affine(visual.head.proj),
        heads=trunk.blocks[0].attn.num_heads,
        activation="gelu",
    )


def _timm_block(block: Any) -> BlockPlan:
    attention, mlp = block.attn, block.mlp
    _require(type(block) is Block and type(attention) is TimmAttention and type(mlp) is Mlp)
    _require(all(isinstance(part, nn.Identity) for part in (attention.q_norm, attention.k_norm, attention.norm, mlp.norm)))
    _require(type(mlp.act) is nn.GELU and mlp.act.approximate == "none")
    return BlockPlan(
        norm1=_norm(block.norm1),
        qkv=_affine(attention.qkv),
        out=_scaled(_affine(attention.proj), block.ls1),
        norm2=_norm(block.norm2),
        rise=_affine(mlp.fc1),
        fall=_scaled(_affine(mlp.fc2), block.ls2),
    )


def _of_open_clip(visual: Any) -> TowerPlan:
    _require(type(visual) is VisionTransformer and visual.attn_pool is None and visual.pool_type in ("tok", "avg"))
    _require(isinstance(visual.patch_dropout, nn.Identity) or not visual.patch_dropout.training)
    blocks = visual.transformer.resblocks
    activations = {type(block.mlp.gelu) for block in blocks}
    _require(activations in ({QuickGELU}, {nn.GELU}))
    conv = visual.conv1
    return TowerPlan(
        patch=_affine(conv),
        prefix=_held(visual.class_embedding[None]),
        positions=_held(visual.positional_embedding),
        norm_pre=_norm_or_none(visual.ln_pre),
        blocks=tuple(_open_clip_block(block) for block in blocks),
        norm_post=_norm(visual.ln_post),
        norm_after_pool=visual.final_ln_after_pool,
        pool="token" if visual.pool_type == "tok" else "avg",
        head=_with_bias(visual.proj.T, None),
        heads=blocks[0].attn.num_heads,
        activation="quick_gelu" if activations == {QuickGELU} else "gelu",
    )


def _open_clip_block(block: Any) -> BlockPlan:
    attention = block.attn
    _require(type(attention) is nn.MultiheadAttention and attention.batch_first and attention.bias_k is None)
    return BlockPlan(
        norm1=_norm(block.ln_1),
        qkv=_with_bias(attention.in_proj_weight, attention.in_proj_bias),
        out=_scaled(_affine(attention.out_proj), block.ls_1),
        norm2=_norm(block.ln_2),
        rise=_affine(block.mlp.c_fc),
        fall=_scaled(_affine(block.mlp.c_proj), block.ls_2),
    )


def _affine(layer: Any) -> Affine:
    return _with_bias(layer.weight, layer.bias)


def _with_bias(weight: Tensor, bias: Tensor | None) -> Affine:
    held = torch.zeros(len(weight)) if bias is None else _held(bias)
    return Affine(_held(weight), held)


def _scaled(affine: Affine, scale: Any) -> Affine:
    """With the layer scale that follows folded in."""
    if isinstance(scale, nn.Identity):
        return affine
    gamma = _held(scale.gamma)
    return Affine(affine.weight * gamma[:, None], affine.bias * gamma)


def _norm(layer: Any) -> Norm:
    _require(isinstance(layer, nn.LayerNorm))
    return Norm(_held(layer.weight), _held(layer.bias), layer.eps)


def _norm_or_none(layer: nn.Module) -> Norm | None:
    return None if isinstance(layer, nn.Identity) else _norm(layer)


def _held(parameter: Tensor) -> Tensor:
    return parameter.detach().float().cpu()


def _require(known: bool) -> None:
    if not known:
        raise _OtherFormError
