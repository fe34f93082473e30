"""What a checkpoint's own settings say of the model it holds, in fairseq's words and in HF's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from inference.drafting.layers import OfaConfig
from inference.errors import BundleError

RESNETS: Final = {"resnet50": (3, 4, 6), "resnet101": (3, 4, 23), "resnet152": (3, 8, 36)}
SYNC_BN_EPS: Final = 1e-3  # UT:46 of the reference: training with --sync-bn changes BatchNorm's epsilon

# What this implementation computes; a checkpoint trained otherwise would load and give wrong numbers.
FAIRSEQ_ON: Final = (
    "encoder_normalize_before",
    "decoder_normalize_before",
    "share_all_embeddings",
    "layernorm_embedding",
    "patch_layernorm_embedding",
    "code_layernorm_embedding",
    "add_type_embedding",
    "scale_attn",
    "scale_fc",
    "scale_heads",
    "disable_entangle",
    "no_scale_embedding",
)
_FAIRSEQ_OFF: Final = (
    "entangle_position_embedding",
    "scale_resids",
    "encoder_prompt",
    "decoder_prompt",
    "adapter",
    "interpolate_position",
    "no_cross_attention",
    "cross_self_attention",
)
_HF_ON: Final = (
    "encoder_normalize_before",
    "decoder_normalize_before",
    "normformer",
    "layernorm_embedding",
    "patch_layernorm_embedding",
    "code_layernorm_embedding",
    "add_type_embedding",
    "share_decoder_input_output_embed",
)
_HF_OFF: Final = ("entangle_position_embedding", "scale_embedding")


def fairseq_config(path: Path, model: Mapping[str, Any], vocabulary: int) -> OfaConfig:
    """Of the arguments in ``cfg.model``. Raises BundleError for a model this is not, KeyError and the like for a lack."""
    _require(path, model, on=FAIRSEQ_ON, off=_FAIRSEQ_OFF)
    for part in ("embed_dim", "ffn_embed_dim", "attention_heads"):
        if model[f"encoder_{part}"] != model[f"decoder_{part}"]:
            raise BundleError(f"{path}: encoder_{part} and decoder_{part} differ; BiomedGPT has one for both")
    return OfaConfig(
        vocabulary=vocabulary,
        width=int(model["encoder_embed_dim"]),
        feed_forward=int(model["encoder_ffn_embed_dim"]),
        heads=int(model["encoder_attention_heads"]),
        encoder_layers=int(model["encoder_layers"]),
        decoder_layers=int(model["decoder_layers"]),
        resnet_layers=_resnet(path, model),
        resnet_width=int(model.get("resnet_width", 64)),
        image_bucket=int(model["image_bucket_size"]),
        token_bucket=int(model["token_bucket_size"]),
        max_positions=int(model["max_source_positions"]),
        code_window=int(model["code_image_size"]) // 8,
        attention_scale_factor=float(model["attn_scale_factor"]),
        batch_norm_eps=SYNC_BN_EPS if model.get("sync_bn") else 1e-5,
    )


def hf_config(path: Path, model: Mapping[str, Any], vocabulary: int) -> OfaConfig:
    """Of an HF ``config.json``. Raises as ``fairseq_config``."""
    _require(path, model, on=_HF_ON, off=_HF_OFF)
    for part in ("ffn_dim", "attention_heads"):
        if model[f"encoder_{part}"] != model[f"decoder_{part}"]:
            raise BundleError(f"{path}: encoder_{part} and decoder_{part} differ; BiomedGPT has one for both")
    return OfaConfig(
        vocabulary=vocabulary,
        width=int(model["d_model"]),
        feed_forward=int(model["encoder_ffn_dim"]),
        heads=int(model["encoder_attention_heads"]),
        encoder_layers=int(model["encoder_layers"]),
        decoder_layers=int(model["decoder_layers"]),
        resnet_layers=_resnet(path, model),
        resnet_width=int(model.get("resnet_width", 64)),
        image_bucket=int(model["image_bucket_size"]),
        token_bucket=int(model["token_bucket_size"]),
        max_positions=int(model["max_position_embeddings"]),
        code_window=int(model["code_image_size"]) // 8,
        # attention_scale_factor stays 2: the HF code has it as a constant and ignores config.json.
    )


def _require(path: Path, model: Mapping[str, Any], *, on: Iterable[str], off: Iterable[str]) -> None:
    wrong = [f"{name} must be on" for name in on if not model.get(name)]
    wrong += [f"{name} must be off" for name in off if model.get(name)]
    activation = model.get("activation_fn", model.get("activation_function"))
    if activation != "gelu":
        wrong.append(f"the activation must be gelu, not {activation!r}")
    if wrong:
        raise BundleError(f"{path}: trained in a way that BiomedGPT is not and this node does not compute: {'; '.join(wrong)}")


def _resnet(path: Path, model: Mapping[str, Any]) -> tuple[int, int, int]:
    if "resnet_layers" in model:  # phantoms are narrower and shallower than any published ResNet
        first, second, third = (int(blocks) for blocks in model["resnet_layers"])
        return first, second, third
    if model["resnet_type"] not in RESNETS:
        raise BundleError(f"{path}: resnet_type {model['resnet_type']!r} is unknown; known: {', '.join(RESNETS)}")
    return RESNETS[model["resnet_type"]]
