"""Read a BiomedGPT checkpoint, in fairseq's or in HF's form, and account for every tensor of it.

Nothing of a checkpoint is executed: see ``weight_files`` and ``fairseq_settings``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from inference.drafting import positions
from inference.drafting.architecture import fairseq_config, hf_config
from inference.drafting.config import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess
from inference.drafting.fairseq_settings import ALLOWED, settings_of
from inference.drafting.layers import OfaConfig
from inference.drafting.model import empty_model
from inference.errors import BundleError
from inference.weight_files import find_weights, is_plain, load_pickled, load_weights, named
from inference.weight_files import load_safetensors as load_safetensors

HF_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
PUBLISHED_CODES: Final = 8192  # image codes of every published vocabulary
PUBLISHED_BINS: Final = 1000  # and location tokens
EMBEDDINGS: Final = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")

_HF_NAMES: Final = (
    (r"^(encoder\.layers\.\d+)\.self_attn_mid_layer_norm\.", r"\1.attn_ln."),
    (r"^(decoder\.layers\.\d+)\.self_attn_mid_layer_norm\.", r"\1.self_attn_ln."),
    (r"\.cross_attn_mid_layer_norm\.", ".cross_attn_ln."),
    (r"\.cross_attn_layer_norm\.", ".encoder_attn_layer_norm."),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.ffn_layer_norm\.", ".ffn_layernorm."),
)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint whose every tensor has its place in ``Ofa(config)``.

    ``moving_average``: the tensors are the moving average (EMA) that the trainer evaluated, not the last step's. ``task``:
    fairseq's name of what it was trained for, ``prompt_type``: how the decoder was prompted then; empty where not stated.
    """

    config: OfaConfig
    tensors: dict[str, Tensor]
    preprocess: Preprocess
    codes: int
    bins: int
    weights: Path
    moving_average: bool = False
    task: str = ""
    prompt_type: str = ""


def read_checkpoint(path: Path, *, image_size: int | None = None) -> Checkpoint:
    """Read a fairseq ``.pt``, or a folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``.

    A folder's weights may be in shards with their index. ``image_size``: pixels per side, for a checkpoint that does not say
    (HF form: else 256, from width 768 on 384). Raises BundleError naming the file and the setting or tensors at fault.
    """
    if path.is_dir():
        return _read_hf(path, image_size)
    if not path.is_file():
        raise BundleError(f"{path}: no such checkpoint; give a fairseq .pt file or a folder in Hugging Face form")
    return _read_fairseq(path, image_size)


def _read_fairseq(path: Path, image_size: int | None) -> Checkpoint:
    state = load_pickled(path, allowed=ALLOWED)
    try:
        model, task = settings_of(state)
        tensors, average = _evaluated(state)
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path}: not a fairseq checkpoint of BiomedGPT (no {error}); it needs cfg or args, model and extra_state"
        ) from error
    try:
        config = fairseq_config(path, model, _vocabulary(tensors))
        imagenet = bool(task.get("imagenet_default_mean_and_std"))
        preprocess = Preprocess(
            image_size or int(task["patch_image_size"]),
            IMAGENET_MEAN if imagenet else HALF,
            IMAGENET_STD if imagenet else HALF,
        )
        codes, bins = int(task["code_dict_size"]), int(task["num_bins"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: its configuration is incomplete ({error!r})") from error
    placed = place_tensors(path, config, tensors)
    named_task = str(task.get("_name") or task.get("task") or "")
    prompt_type = str(task.get("prompt_type") or "")
    return Checkpoint(config, placed, preprocess, codes, bins, path, average, named_task, prompt_type)


def _evaluated(state: Mapping[Any, Any]) -> tuple[dict[str, Any], bool]:
    """The weights the trainer evaluated, and whether they are a moving average.

    The VQA script trains and evaluates the moving average; "model" beside it is not what was published.
    """
    average = (state["extra_state"] or {}).get("ema")
    tensors = average or state["model"]
    if not isinstance(tensors, dict):
        raise TypeError(f"mapping of names to tensors but a {type(tensors).__name__}")
    return {str(name): tensor for name, tensor in tensors.items()}, bool(average)


def _read_hf(folder: Path, image_size: int | None) -> Checkpoint:
    weights = find_weights(folder, HF_WEIGHTS)
    if weights is None:
        raise BundleError(f"{folder}: no {' or '.join(HF_WEIGHTS)} here, whole or in shards with their .index.json")
    try:
        model: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder / 'config.json'}: cannot be read ({error})") from error
    found = load_weights(weights)
    tensors = {_fairseq_name(str(name)): tensor for name, tensor in found.items()}
    if len(tensors) != len(found):
        raise BundleError(f"{weights}: holds tensors twice, under HF's names and under fairseq's")
    try:
        config = hf_config(folder / "config.json", model, _vocabulary(tensors))
        codes, bins = int(model.get("code_dict_size", PUBLISHED_CODES)), int(model.get("num_bins", PUBLISHED_BINS))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{folder / 'config.json'}: incomplete, or of another model ({error!r})") from error
    preprocess = Preprocess(image_size or (384 if config.width >= 768 else 256))
    return Checkpoint(config, place_tensors(weights, config, tensors), preprocess, codes, bins, weights)


def _vocabulary(tensors: Mapping[str, Any]) -> int:
    """Rows of the token embedding, of which a file may keep fewer copies than there are names. Raises KeyError."""
    found = next((tensors[name] for name in EMBEDDINGS if name in tensors), None)
    if found is None:
        raise KeyError(EMBEDDINGS[0])
    return len(found)


def place_tensors(path: Path, config: OfaConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names, each in its place. Raises BundleError naming those missing, unexpected or of wrong shape."""
    wrong_kind = [name for name, tensor in tensors.items() if not is_plain(tensor)]
    if wrong_kind:
        raise BundleError(f"{path}: {named(wrong_kind)} should be tensors of plain numbers and are not")
    _check_buffers(path, config, tensors)
    rest = {name: tensor for name, tensor in tensors.items() if name not in EMBEDDINGS and not _is_buffer(name)}
    placed = {"embed_tokens.weight": _shared_embedding(path, tensors), **rest}
    wanted = empty_model(config).state_dict()
    faults = [
        ("missing", [name for name in wanted if name not in placed]),
        ("unexpected", [name for name in placed if name not in wanted]),
        ("of the wrong shape", [n for n, t in placed.items() if n in wanted and wanted[n].shape != t.shape]),
        ("not finite", [n for n, t in placed.items() if t.is_floating_point() and not bool(t.isfinite().all())]),
    ]
    text = "; ".join(f"{what}: {named(names)}" for what, names in faults if names)
    if text:
        raise BundleError(f"{path}: its tensors do not make this model ({text})")
    return {name: placed[name].detach().contiguous() for name in wanted}


def _fairseq_name(name: str) -> str:
    for pattern, ours in _HF_NAMES:
        name = re.sub(pattern, ours, name)
    return name


def _shared_embedding(path: Path, tensors: Mapping[str, Tensor]) -> Tensor:
    copies = [tensors[name] for name in EMBEDDINGS if name in tensors]
    if not copies:
        raise BundleError(f"{path}: no token embedding; looked for {', '.join(EMBEDDINGS)}")
    if not all(_same(copies[0], copy) for copy in copies):
        raise BundleError(f"{path}: {', '.join(EMBEDDINGS)} differ, but BiomedGPT shares one matrix")
    return copies[0]


def _same(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and found.dtype == wanted.dtype and torch.equal(found, wanted)


def _is_buffer(name: str) -> bool:
    return name.endswith((".version", ".token_rp_bucket", ".image_rp_bucket", ".image_position_idx"))


def _check_buffers(path: Path, config: OfaConfig, tensors: Mapping[str, Tensor]) -> None:
    """Position buckets in the file must be those computed here, or the bias tables would be read at other rows."""
    everywhere = torch.arange(config.image_bucket**2 + 1)
    codes = positions.code_positions(config.image_bucket, config.code_window, 1 + config.code_window**2)
    for name, found in tensors.items():
        rows = len(found) if found.dim() else 0
        if name.endswith(".token_rp_bucket"):
            same = found.dim() == 2 and _same(found, positions.token_buckets(config.token_bucket, rows))
        elif name.endswith(".image_rp_bucket"):
            same = _same(found, positions.image_buckets(config.image_bucket, everywhere))
        elif name.endswith(".image_position_idx"):
            same = rows >= len(codes) and _same(found[: len(codes)], codes)
        else:
            continue
        if not same:
            raise BundleError(
                f"{path}: {name} holds other positions than its bucket sizes give; the file is of another model or damaged"
            )
