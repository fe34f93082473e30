"""The two forms BiomedGPT is published in, written for tests from facts of the originals, not by the product's own code."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from inference.drafting import positions
from inference.drafting.layers import OfaConfig
from inference.drafting.model import Ofa
from inference.drafting.tokenizer import BpeFiles

State = dict[str, Any]
EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")
# Ours (and fairseq's) to HF's, written from the other side than the product's map.
HF_NAMES = {
    r"encoder\.layers\.(\d+)\.attn_ln\.": r"encoder.layers.\1.self_attn_mid_layer_norm.",
    r"decoder\.layers\.(\d+)\.self_attn_ln\.": r"decoder.layers.\1.self_attn_mid_layer_norm.",
    r"\.cross_attn_ln\.": ".cross_attn_mid_layer_norm.",
    r"\.encoder_attn_layer_norm\.": ".cross_attn_layer_norm.",
    r"\.encoder_attn\.": ".cross_attn.",
    r"\.ffn_layernorm\.": ".ffn_layer_norm.",
}
RESNETS = {(3, 4, 6): "resnet50", (3, 4, 23): "resnet101", (3, 8, 36): "resnet152"}
_FLAGS = """encoder_normalize_before decoder_normalize_before share_all_embeddings layernorm_embedding
    patch_layernorm_embedding code_layernorm_embedding add_type_embedding scale_attn scale_fc scale_heads disable_entangle
    no_scale_embedding"""


def tensors_of(model: Ofa) -> State:
    """As the trainer saves: half precision, three copies of the embedding, the position buckets, 769 fillers of 1024."""
    config = model.config
    state = {name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    embedding = state.pop("embed_tokens.weight")
    state |= dict.fromkeys(EMBEDDINGS, embedding)
    tokens = positions.token_buckets(config.token_bucket, 1024)
    images = positions.image_buckets(config.image_bucket, torch.arange(config.image_bucket**2 + 1))
    for stack in ("encoder", "decoder"):
        state |= {f"{stack}.token_rp_bucket": tokens, f"{stack}.image_rp_bucket": images}
    codes = positions.code_positions(config.image_bucket, config.code_window, 1 + config.code_window**2)
    return state | {"decoder.image_position_idx": torch.cat([codes, torch.full((769,), 1024)])}


def save_original(model: Ofa, path: Path, *, image_size: int, codes: int = 8192, bins: int = 1000, **task: Any) -> None:
    """The fairseq ``.pt`` of a model."""
    settings = {"_name": "caption", "patch_image_size": image_size, "imagenet_default_mean_and_std": False}
    settings |= {"code_dict_size": codes, "num_bins": bins, **task}
    versions = {f"{stack}.version": torch.tensor([3.0]) for stack in ("encoder", "decoder")}
    cfg = {"_name": None, "model": argparse.Namespace(**arguments(model.config)), "task": settings, "common": {"fp16": True}}
    names = ("criterion", "task_state", "last_optimizer_state")
    checkpoint = {"args": None, "cfg": cfg, "model": tensors_of(model) | versions, "optimizer_history": [], "extra_state": {}}
    torch.save(checkpoint | dict.fromkeys(names), path)


def arguments(config: OfaConfig) -> State:
    """``cfg.model``: what the training command and the architecture's defaults amount to."""
    both = {"embed_dim": config.width, "ffn_embed_dim": config.feed_forward, "attention_heads": config.heads}
    return {
        "arch": "ofa",
        **{f"{stack}_{name}": value for stack in ("encoder", "decoder") for name, value in both.items()},
        **dict.fromkeys(_FLAGS.split(), True),
        **dict.fromkeys(("entangle_position_embedding", "scale_resids", "sync_bn"), False),
        "activation_fn": "gelu",
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        **_resnet(config),
        "image_bucket_size": config.image_bucket,
        "token_bucket_size": config.token_bucket,
        "max_source_positions": config.max_positions,
        "code_image_size": config.code_window * 8,
        "attn_scale_factor": 2.0,
    }


def save_hf(model: Ofa, folder: Path, *, codes: int = 8192, bins: int = 1000, safe: bool = False, shards: int = 1) -> None:
    """A folder in HF form, with one copy of the embedding where safetensors is written, as ``save_pretrained`` does."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_hf_name(name): tensor for name, tensor in tensors_of(model).items()}
    if safe:
        tensors = {name: tensor.clone() for name, tensor in tensors.items() if name not in EMBEDDINGS[1:]}
    _save_weights(tensors, folder, ".safetensors" if safe else ".bin", shards)
    given = {"code_dict_size": codes, "num_bins": bins} if (codes, bins) != (8192, 1000) else {}
    (folder / "config.json").write_text(json.dumps(hf_config(model.config) | given), "utf-8")


def hf_config(config: OfaConfig) -> State:
    on = "encoder_normalize_before decoder_normalize_before normformer layernorm_embedding patch_layernorm_embedding"
    on += " code_layernorm_embedding add_type_embedding share_decoder_input_output_embed"
    return {
        "model_type": "ofa",
        "activation_function": "gelu",
        **dict.fromkeys(on.split(), True),
        **dict.fromkeys(("entangle_position_embedding", "scale_embedding"), False),
        "d_model": config.width,
        **{f"{stack}_ffn_dim": config.feed_forward for stack in ("encoder", "decoder")},
        **{f"{stack}_attention_heads": config.heads for stack in ("encoder", "decoder")},
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        **_resnet(config),
        "image_bucket_size": config.image_bucket,
        "token_bucket_size": config.token_bucket,
        "max_position_embeddings": config.max_positions,
        "code_image_size": config.code_window * 8,
        "vocab_size": config.vocabulary,
    }


def write_hf_tokenizer(files: BpeFiles, folder: Path) -> None:
    """HF's two files: one number for each piece, which is its final id."""
    pieces = {str(number): piece for piece, number in files.encoder.items()}
    symbols = ["<s>", "<pad>", "</s>", "<unk>", *(pieces.get(symbol, symbol) for symbol in files.symbols), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(symbols)}), "utf-8")
    merges = "".join(f"{left} {right}\n" for left, right in files.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, "utf-8")


def _resnet(config: OfaConfig) -> State:
    if config.resnet_layers in RESNETS:
        return {"resnet_type": RESNETS[config.resnet_layers]}
    return {"resnet_type": "phantom", "resnet_layers": list(config.resnet_layers), "resnet_width": config.resnet_width}


def _hf_name(name: str) -> str:
    for pattern, hf in HF_NAMES.items():
        name = re.sub(pattern, hf, name)
    return name


def _save_weights(tensors: State, folder: Path, suffix: str, shards: int) -> None:
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names = list(tensors)
    parts = [names[start::shards] for start in range(shards)]
    files = [f"{stem}{suffix}" if shards == 1 else f"{stem}-{i + 1:05}-of-{shards:05}{suffix}" for i in range(shards)]
    for file, part in zip(files, parts, strict=True):
        some = {name: tensors[name] for name in part}
        save_file(some, folder / file) if suffix == ".safetensors" else torch.save(some, folder / file)
    if shards > 1:
        weight_map = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index), "utf-8")
