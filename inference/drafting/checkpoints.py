"""Read a BiomedGPT checkpoint, in fairseq's or in HF's form, and account for every tensor of it.

Nothing of a checkpoint is executed: pickles are opened with ``weights_only=True``, and only tensors, plain containers and
``argparse.Namespace`` (where fairseq keeps the model's arguments) may be in them.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from inference.drafting import positions
from inference.drafting.architecture import fairseq_config, hf_config
from inference.drafting.config import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess
from inference.drafting.layers import OfaConfig
from inference.drafting.model import empty_model
from inference.errors import BundleError

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
    """A checkpoint whose every tensor has its place in ``Ofa(config)``."""

    config: OfaConfig
    tensors: dict[str, Tensor]
    preprocess: Preprocess
    codes: int
    bins: int


def read_checkpoint(path: Path, *, image_size: int | None = None) -> Checkpoint:
    """Read a fairseq ``.pt``, or a folder with ``config.json`` and ``pytorch_model.bin`` or ``model.safetensors``.

    ``image_size``: pixels per side, for a checkpoint that does not say (HF form: else 256, from width 768 on 384).
    Raises BundleError naming the file and the setting or tensors at fault.
    """
    if path.is_dir():
        return _read_hf(path, image_size)
    if not path.is_file():
        raise BundleError(f"{path}: no such checkpoint; give a fairseq .pt file or a folder in Hugging Face form")
    return _read_fairseq(path, image_size)


def _read_fairseq(path: Path, image_size: int | None) -> Checkpoint:
    state = _unpickle(path)
    try:
        model, task = vars(state["cfg"]["model"]), dict(state["cfg"]["task"])
        # The VQA script trains and evaluates the moving average; "model" beside it is not what was published.
        tensors = state["extra_state"].get("ema") or state["model"]
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path}: not a fairseq checkpoint of BiomedGPT (no {error}); it needs cfg, model and extra_state"
        ) from error
    try:
        config = fairseq_config(path, model, len(tensors[EMBEDDINGS[0]]))
        imagenet = bool(task.get("imagenet_default_mean_and_std"))
        preprocess = Preprocess(
            image_size or int(task["patch_image_size"]),
            IMAGENET_MEAN if imagenet else HALF,
            IMAGENET_STD if imagenet else HALF,
        )
        codes, bins = int(task["code_dict_size"]), int(task["num_bins"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: its configuration is incomplete ({error!r})") from error
    return Checkpoint(config, place_tensors(path, config, tensors), preprocess, codes, bins)


def _read_hf(folder: Path, image_size: int | None) -> Checkpoint:
    weights = next((folder / name for name in HF_WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise BundleError(f"{folder}: no {' or '.join(HF_WEIGHTS)} here")
    try:
        model: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder / 'config.json'}: cannot be read ({error})") from error
    found = load_safetensors(weights) if weights.suffix == ".safetensors" else _unpickle(weights)
    tensors = {_fairseq_name(name): tensor for name, tensor in found.items()}
    try:
        config = hf_config(folder / "config.json", model, len(tensors[EMBEDDINGS[0]]))
        codes, bins = int(model.get("code_dict_size", PUBLISHED_CODES)), int(model.get("num_bins", PUBLISHED_BINS))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / 'config.json'}: incomplete ({error!r})") from error
    preprocess = Preprocess(image_size or (384 if config.width >= 768 else 256))
    return Checkpoint(config, place_tensors(weights, config, tensors), preprocess, codes, bins)


def place_tensors(path: Path, config: OfaConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names, each in its place. Raises BundleError naming those missing, unexpected or of wrong shape."""
    wrong_kind = [name for name, tensor in tensors.items() if not isinstance(tensor, Tensor)]
    if wrong_kind:
        raise BundleError(f"{path}: {_list(wrong_kind)} should be tensors and are not")
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
    text = "; ".join(f"{what}: {_list(names)}" for what, names in faults if names)
    if text:
        raise BundleError(f"{path}: its tensors do not make this model ({text})")
    return {name: placed[name].detach().contiguous() for name in wanted}


def load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except (OSError, SafetensorError, ValueError) as error:
        raise BundleError(f"{path}: not a readable safetensors file ({error})") from error


def _unpickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise BundleError(
            f"{path}: refused, and nothing of it was run: it holds more than tensors and settings ({reason})"
        ) from error
    except Exception as error:
        raise BundleError(
            f"{path}: not a readable PyTorch checkpoint ({type(error).__name__}); download or copy it again"
        ) from error
    if not isinstance(state, dict):
        raise BundleError(f"{path}: holds a {type(state).__name__}, not a checkpoint")
    return state


def _fairseq_name(name: str) -> str:
    for pattern, ours in _HF_NAMES:
        name = re.sub(pattern, ours, name)
    return name


def _shared_embedding(path: Path, tensors: Mapping[str, Tensor]) -> Tensor:
    copies = [tensors[name] for name in EMBEDDINGS if name in tensors]
    if not copies:
        raise BundleError(f"{path}: no token embedding; looked for {', '.join(EMBEDDINGS)}")
    if not all(torch.equal(copies[0], copy) for copy in copies):
        raise BundleError(f"{path}: {', '.join(EMBEDDINGS)} differ, but BiomedGPT shares one matrix")
    return copies[0]


def _is_buffer(name: str) -> bool:
    return name.endswith((".version", ".token_rp_bucket", ".image_rp_bucket", ".image_position_idx"))


def _check_buffers(path: Path, config: OfaConfig, tensors: Mapping[str, Tensor]) -> None:
    """Position buckets in the file must be those computed here, or the bias tables would be read at other rows."""
    everywhere = torch.arange(config.image_bucket**2 + 1)
    codes = positions.code_positions(config.image_bucket, config.code_window, 1 + config.code_window**2)
    for name, found in tensors.items():
        if name.endswith(".token_rp_bucket"):
            same = torch.equal(found, positions.token_buckets(config.token_bucket, found.shape[0]))
        elif name.endswith(".image_rp_bucket"):
            same = torch.equal(found, positions.image_buckets(config.image_bucket, everywhere))
        elif name.endswith(".image_position_idx"):
            same = torch.equal(found[: len(codes)], codes)
        else:
            continue
        if not same:
            raise BundleError(
                f"{path}: {name} holds other positions than its bucket sizes give; the file is of another model or damaged"
            )


def _list(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
