"""The forms a contrastive model is published in, each read into one: open_clip's names and configuration.

open_clip's own folder, with a BERT or without; a transformers ``CLIPModel`` folder (``transformers_form``); and the bare state
of OpenAI's model, whose shapes say all of its configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from inference.errors import BundleError
from inference.triage.open_clip_folder import CONFIG, WEIGHTS, read_config
from inference.weight_files import find_weights, is_plain, load_pickled, load_safetensors, load_weights, named

TRANSFORMERS_FILES: Final = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_FILES: Final = (
    WEIGHTS,
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pt",
    *TRANSFORMERS_FILES,  # a folder may hold both forms: open_clip's names come first
)
OPENAI_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Final = (0.26862954, 0.26130258, 0.27577711)
_OPENAI_SAYS: Final = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's state beside the weights
_HEAD_WIDTH: Final = 64  # of every CLIP of OpenAI


@dataclass(frozen=True, slots=True, eq=False)
class ForeignModel:
    """``config`` as ``open_clip_config.json`` holds it, ``state`` under open_clip's names, ``weights``: the file of them."""

    weights: Path
    config: dict[str, Any]
    state: dict[str, Tensor]


def read_open_clip(folder: Path) -> ForeignModel:
    """Raises BundleError where a file is missing or damaged."""
    config = read_config(folder)
    weights = weights_of(folder, OPEN_CLIP_FILES)
    state = plain_state(weights, load_weights(weights))
    drop_counter(weights, state, "text.transformer.embeddings.position_ids")
    return ForeignModel(weights, config, state)


def read_openai_state(path: Path) -> ForeignModel:
    """OpenAI's own model as a bare state, saved by a user of its code. Raises BundleError for any other file."""
    raw = load_safetensors(path) if path.suffix == ".safetensors" else load_pickled(path)
    state = plain_state(path, raw)
    said = {name: int(state.pop(name)) for name in _OPENAI_SAYS if name in state and state[name].numel() == 1}
    if len(said) != len(_OPENAI_SAYS) or "visual.proj" not in state:
        raise BundleError(
            f"{path}: a single file must be OpenAI's own CLIP state (a ViT with {', '.join(_OPENAI_SAYS)} in it), where the "
            f"weights say the whole configuration; of any other model give the folder with its {CONFIG} or config.json"
        )
    try:
        config = _openai_config(state)
    except (KeyError, IndexError) as error:
        raise BundleError(f"{path}: not a whole CLIP state (no {error})") from error
    model = config["model_cfg"]
    found = (model["vision_cfg"]["image_size"], model["text_cfg"]["context_length"], model["text_cfg"]["vocab_size"])
    if tuple(said[name] for name in _OPENAI_SAYS) != found:
        raise BundleError(f"{path}: its shapes give {', '.join(_OPENAI_SAYS)} {found}, it says {tuple(said.values())}")
    return ForeignModel(path, config, state)


def weights_of(folder: Path, names: Sequence[str]) -> Path:
    found = find_weights(folder, names)
    if found is None:
        raise BundleError(f"{folder}: no weights; one of these is needed: {', '.join(names)}")
    return found


def plain_state(path: Path, raw: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The mapping of names to tensors in what a file held. Raises BundleError where there is none."""
    state = raw.get("state_dict", raw)
    if not isinstance(state, dict) or not state:
        raise BundleError(f"{path}: not a mapping of names to tensors")
    wrong = [str(name) for name, value in state.items() if not is_plain(value)]
    if wrong:
        raise BundleError(f"{path}: {named(wrong)} should be tensors of plain numbers and are not")
    plain = {str(name).removeprefix("module."): value.clone().contiguous() for name, value in state.items()}
    if len(plain) != len(state):
        raise BundleError(f"{path}: holds tensors twice, with and without module. before their names")
    return plain


def drop_counter(path: Path, state: dict[str, Tensor], name: str) -> None:
    """Take out the position counter that transformers saved until 4.31, after a look that it only counts."""
    counter = state.pop(name, None)
    if counter is not None and counter.flatten().tolist() != list(range(counter.numel())):
        raise BundleError(f"{path}: {name} holds other positions than 0, 1, 2 …, which this model does not compute")


def preprocess_config(mean: tuple[float, ...] = OPENAI_MEAN, std: tuple[float, ...] = OPENAI_STD) -> dict[str, Any]:
    """OpenAI's preprocessing in open_clip's words: shortest side bicubic to the size, centre crop, normalise."""
    shape = {"mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}
    return {"mean": list(mean), "std": list(std), **shape}


def _openai_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    patches, width = state["visual.positional_embedding"].shape[0] - 1, state["ln_final.weight"].shape[0]
    patch_size = state["visual.conv1.weight"].shape[-1]
    vision = {
        "image_size": patch_size * round(patches**0.5),
        "layers": _layers(state, "visual.transformer.resblocks."),
        "width": state["visual.conv1.weight"].shape[0],
        "patch_size": patch_size,
    }
    text = {
        "context_length": state["positional_embedding"].shape[0],
        "vocab_size": state["token_embedding.weight"].shape[0],
        "width": width,
        "heads": width // _HEAD_WIDTH,
        "layers": _layers(state, "transformer.resblocks."),
    }
    model = {"embed_dim": state["text_projection"].shape[1], "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    return {"model_cfg": model, "preprocess_cfg": preprocess_config()}


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
