"""An open_clip model in a local folder, made without asking any network.

The folder is what the hub holds: ``open_clip_config.json`` and weights; with a BERT text tower also BERT's own ``config.json``
and its tokenizer files. The hub's config names the text tower by its repository, and open_clip would look there: in memory,
never in the folder, those names are pointed at the folder itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError

from inference.errors import BundleError
from inference.triage.clip_vocabulary import load_tokenizer

CONFIG: Final = "open_clip_config.json"
WEIGHTS: Final = "open_clip_model.safetensors"
TEXT_CONFIG: Final = "config.json"
TOKENIZER: Final = "tokenizer.json"
VOCABULARY: Final = "vocab.txt"
_OLD_SPELLING: Final = {"proj": "hf_proj_type", "pooler_type": "hf_pooler_type"}  # open_clip before 2.20


@dataclass(frozen=True, slots=True, eq=False)
class ContrastiveModel:
    """``transform``: PIL image, grey or RGB, to float32 (3, size, size). ``tokenize``: texts to int64 (texts, context).

    ``pad``: the token that fills a row. ``masked``: the text tower does not look at it, so that a row may be cut there.
    """

    net: Any  # CLIP or CustomTextCLIP: open_clip declares no types
    transform: Callable[[Image.Image], torch.Tensor]
    tokenize: Callable[[list[str]], torch.Tensor]
    pad: int = 0
    masked: bool = False


def open_folder(folder: Path, device: torch.device, *, weights: bool = True) -> ContrastiveModel:
    """Make the model of ``folder``. ``weights`` False leaves it as initialised (for training).

    Raises BundleError where the folder is incomplete, or where config and weights do not fit each other tensor by tensor.
    """
    config = read_config(folder)
    _require(folder, config, weights)
    name, text = f"local-dir:{folder}", local_text_config(config, folder)
    try:
        net, _, transform = open_clip.create_model_and_transforms(
            name,
            device=device,
            precision="fp32",
            pretrained_hf=False,
            load_weights=weights,
            require_pretrained=weights,
            weights_only=True,
            text_cfg=text,
        )
        tokenize = open_clip.get_tokenizer(name) if text.get("hf_tokenizer_name") else load_tokenizer(folder, text)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(
            f"{folder}: this model cannot be opened ({type(error).__name__}: {reason}); import it again"
        ) from error
    if not has_bert(config):
        return ContrastiveModel(net.eval(), transform, tokenize)
    return ContrastiveModel(net.eval(), transform, tokenize, pad=net.text.config.pad_token_id, masked=True)


def read_config(folder: Path) -> dict[str, Any]:
    """``open_clip_config.json`` as it stands. Raises BundleError."""
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
        text, vision = config["model_cfg"]["text_cfg"], config["model_cfg"]["vision_cfg"]
    except FileNotFoundError as error:
        raise BundleError(f"{folder}: {CONFIG} is missing; a model folder as the hub holds it is needed") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: damaged or not an open_clip configuration ({error!r})") from error
    if not isinstance(text, dict) or not isinstance(vision, dict):
        raise BundleError(f"{path}: model_cfg.text_cfg and model_cfg.vision_cfg must be mappings")
    return config


def has_bert(config: dict[str, Any]) -> bool:
    """Whether the text tower is a BERT with files of its own."""
    return bool(config["model_cfg"]["text_cfg"].get("hf_model_name"))


def local_text_config(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The text tower's configuration with today's key names and every name pointed at ``folder``."""
    text = {_OLD_SPELLING.get(key, key): value for key, value in config["model_cfg"]["text_cfg"].items()}
    if has_bert(config):
        text |= {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_model_pretrained": False}
    return text


def _require(folder: Path, config: dict[str, Any], weights: bool) -> None:
    wanted = [WEIGHTS] if weights else []
    if has_bert(config):
        wanted.append(TEXT_CONFIG)
        if not (folder / TOKENIZER).is_file():
            wanted.append(VOCABULARY)
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise BundleError(f"{folder}: {', '.join(missing)} missing; import the model again with its text tower's files")
