"""A CLIP as transformers' ``CLIPModel`` saves it, in open_clip's words.

The two compute the same: pre-norm blocks, GELU or OpenAI's approximation of it (``quick_gelu``), the embedding of a text read
at its end token. They differ in names, in whether query, key and value are one matrix, and in the direction of the projections.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from inference.errors import BundleError
from inference.triage.foreign import (
    OPENAI_MEAN,
    OPENAI_STD,
    TRANSFORMERS_FILES,
    ForeignModel,
    drop_counter,
    plain_state,
    preprocess_config,
    weights_of,
)
from inference.weight_files import load_weights, named

CONFIG: Final = "config.json"
PREPROCESSOR: Final = "preprocessor_config.json"
_BICUBIC: Final = 3  # Pillow's number for it
_NORMALISATION: Final = (("image_mean", OPENAI_MEAN), ("image_std", OPENAI_STD))
_STEPS: Final = ("do_resize", "do_center_crop", "do_normalize")
_LAYER_NORM_EPS: Final = 1e-5  # open_clip's, not to be configured
_ACTIVATIONS: Final = {"quick_gelu": True, "gelu": False}
_TOWERS: Final = (
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),  # misspelt so in every checkpoint
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"(resblocks\.\d+)\.self_attn\.out_proj\.", r"\1.attn.out_proj."),
    (r"(resblocks\.\d+)\.layer_norm1\.", r"\1.ln_1."),
    (r"(resblocks\.\d+)\.layer_norm2\.", r"\1.ln_2."),
    (r"(resblocks\.\d+)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
    (r"(resblocks\.\d+)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
)
_TURNED: Final = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_QUERY_KEY_VALUE: Final = re.compile(r"^(.+resblocks\.\d+)\.self_attn\.([qkv])_proj\.(weight|bias)$")


def is_transformers_clip(folder: Path) -> bool:
    """Whether ``config.json`` says so of itself."""
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "clip"


def read_transformers_clip(folder: Path) -> ForeignModel:
    """Raises BundleError where a file is missing or damaged, or the model computes something open_clip's CLIP does not."""
    weights = weights_of(folder, TRANSFORMERS_FILES)
    raw = plain_state(weights, load_weights(weights))
    for tower in ("text_model", "vision_model"):
        drop_counter(weights, raw, f"{tower}.embeddings.position_ids")
    config = {"model_cfg": _model_config(folder), "preprocess_cfg": _preprocess(folder)}
    return ForeignModel(weights, config, _renamed(weights, raw))


def _model_config(folder: Path) -> dict[str, Any]:
    from transformers import CLIPConfig  # fills in what a config.json leaves to its defaults, and reads its older spelling

    path = folder / CONFIG
    try:
        config = CLIPConfig.from_dict(json.loads(path.read_text("utf-8")))
    except Exception as error:
        raise BundleError(f"{path}: damaged, or not of a CLIPModel ({' '.join(str(error).split())[:200]})") from error
    text, vision = config.text_config, config.vision_config
    _require(path, text, vision)
    return {
        "embed_dim": config.projection_dim,
        "quick_gelu": _ACTIVATIONS[text.hidden_act],
        "vision_cfg": {
            "image_size": vision.image_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
            "patch_size": vision.patch_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
        },
    }


def _require(path: Path, text: Any, vision: Any) -> None:
    wrong = [f"hidden_act {tower.hidden_act!r}" for tower in (text, vision) if tower.hidden_act not in _ACTIVATIONS]
    if text.hidden_act != vision.hidden_act:
        wrong.append(f"hidden_act {text.hidden_act!r} for texts and {vision.hidden_act!r} for images")
    wrong += [f"layer_norm_eps {t.layer_norm_eps}" for t in (text, vision) if t.layer_norm_eps != _LAYER_NORM_EPS]
    if text.eos_token_id not in (2, text.vocab_size - 1):  # 2: written before transformers 4.31, and read as "the largest id"
        wrong.append(f"eos_token_id {text.eos_token_id}: the text is read at its largest token id")
    if vision.num_channels != 3:
        wrong.append(f"num_channels {vision.num_channels}")
    if wrong:
        raise BundleError(f"{path}: open_clip's CLIP does not compute this: {'; '.join(wrong)}")


def _preprocess(folder: Path) -> dict[str, Any]:
    path = folder / PREPROCESSOR
    if not path.is_file():
        return preprocess_config()
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        mean, std = (tuple(float(x) for x in data.get(name, own)) for name, own in _NORMALISATION)
        usual = data.get("resample", _BICUBIC) == _BICUBIC and all(data.get(name, True) for name in _STEPS)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: damaged ({error!r})") from error
    if not usual or len(mean) != 3 or len(std) != 3:
        raise BundleError(f"{path}: another preprocessing than CLIP's (bicubic, {', '.join(_STEPS)}, three channels)")
    return preprocess_config(mean, std)


def _renamed(path: Path, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}  # of in_proj, by its name and by q, k, v
    for name, tensor in raw.items():
        ours = _open_clip_name(name)
        part = _QUERY_KEY_VALUE.match(ours)
        if part:
            thirds.setdefault(f"{part[1]}.attn.in_proj_{part[3]}", {})[part[2]] = tensor
        elif name in _TURNED and tensor.dim() == 2:
            state[_TURNED[name]] = tensor.T.contiguous()  # Linear keeps (out, in); open_clip multiplies by (in, out)
        else:
            state[ours] = tensor
    broken = sorted(name for name, found in thirds.items() if not _is_whole(found))
    if broken:
        raise BundleError(f"{path}: query, key and value are missing or of unlike shapes for {named(broken)}")
    return state | {name: torch.cat([found[letter] for letter in "qkv"]) for name, found in thirds.items()}


def _is_whole(thirds: Mapping[str, Tensor]) -> bool:
    return thirds.keys() == set("qkv") and len({(tensor.shape, tensor.dtype) for tensor in thirds.values()}) == 1


def _open_clip_name(name: str) -> str:
    for pattern, ours in _TOWERS:
        name = re.sub(pattern, ours, name)
    return name
