"""Write a model in the form the original trainer saves, so that a phantom comes in by the same door as a real checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference.drafting import positions
from inference.drafting.architecture import FAIRSEQ_ON
from inference.drafting.checkpoints import EMBEDDINGS
from inference.drafting.layers import OfaConfig
from inference.drafting.model import Ofa


def save_fairseq(model: Ofa, path: Path, *, image_size: int, codes: int, bins: int) -> None:
    """Save ``model`` in half precision with fairseq's keys, arguments, buffers and three copies of the embedding."""
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
    embedding = state.pop("embed_tokens.weight")
    state |= {name: embedding.clone() for name in EMBEDDINGS}
    state |= _buffers(model.config)
    checkpoint: dict[str, Any] = {
        "args": None,
        "cfg": {"model": argparse.Namespace(**_arguments(model.config)), "task": _task(image_size, codes, bins)},
        "model": state,
        "criterion": None,
        "optimizer_history": [],
        "task_state": {},
        "extra_state": {},
        "last_optimizer_state": None,
    }
    torch.save(checkpoint, path)


def _buffers(config: OfaConfig) -> dict[str, Tensor]:
    tokens = positions.token_buckets(config.token_bucket, positions.LOG_RANGE)
    images = positions.image_buckets(config.image_bucket, torch.arange(config.image_bucket**2 + 1))
    buffers = {f"{stack}.{name}": value for stack in ("encoder", "decoder") for name, value in _rp(tokens, images).items()}
    codes = positions.code_positions(config.image_bucket, config.code_window, config.code_window**2 + 1)
    return buffers | {"decoder.image_position_idx": codes}


def _rp(tokens: Tensor, images: Tensor) -> dict[str, Tensor]:
    return {"version": torch.tensor([3.0]), "token_rp_bucket": tokens, "image_rp_bucket": images}


def _task(image_size: int, codes: int, bins: int) -> dict[str, Any]:
    return {
        "_name": "caption",
        "patch_image_size": image_size,
        "imagenet_default_mean_and_std": False,
        "code_dict_size": codes,
        "num_bins": bins,
    }


def _arguments(config: OfaConfig) -> dict[str, Any]:
    both = {
        "embed_dim": config.width,
        "ffn_embed_dim": config.feed_forward,
        "attention_heads": config.heads,
    }
    return {
        **{f"{stack}_{name}": value for stack in ("encoder", "decoder") for name, value in both.items()},
        **dict.fromkeys(FAIRSEQ_ON, True),
        "entangle_position_embedding": False,
        "activation_fn": "gelu",
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "resnet_type": "phantom",
        "resnet_layers": list(config.resnet_layers),
        "resnet_width": config.resnet_width,
        "image_bucket_size": config.image_bucket,
        "token_bucket_size": config.token_bucket,
        "max_source_positions": config.max_positions,
        "code_image_size": config.code_window * 8,
        "attn_scale_factor": config.attention_scale_factor,
        "sync_bn": False,
    }
