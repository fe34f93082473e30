"""The image half of a contrastive model, opened without the text half: what a node needs once its prompts are known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

from inference.errors import BundleError
from inference.triage.open_clip_folder import WEIGHTS, ContrastiveModel, read_config

_PREFIX: Final = "visual."
_NO_TEXT: Final = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}  # open_clip wants a text tower


class ImageTower(nn.Module):
    """``visual``: open_clip's or timm's image tower, in float32 as published. ``logit_scale``: as in the model, a logarithm."""

    def __init__(self, visual: nn.Module, logit_scale: torch.Tensor) -> None:
        super().__init__()
        self.visual = visual
        self.logit_scale: torch.Tensor
        self.register_buffer("logit_scale", logit_scale.detach().clone())

    def encode_image(self, images: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """``images``: float32 (n, 3, size, size), normalised as the model wants, to float32 (n, width), unit if wished."""
        vectors: torch.Tensor = self.visual(images)
        return nn.functional.normalize(vectors, dim=-1) if normalize else vectors

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encode_image(images, normalize=True)


@dataclass(frozen=True, slots=True, eq=False)
class ImageModel:
    """``transform``: PIL image, grey or RGB, to float32 (3, size, size): the model's own preprocessing."""

    tower: ImageTower
    transform: Callable[[Image.Image], torch.Tensor]


def image_half(model: ContrastiveModel) -> ImageModel:
    """The image half of an open model; the text half is freed when the caller lets ``model`` go."""
    return ImageModel(ImageTower(model.net.visual, model.net.logit_scale).eval(), model.transform)


def open_image_half(folder: Path, device: torch.device) -> ImageModel:
    """Open the image half alone: the same tower and preprocessing that ``open_folder`` gives.

    Raises BundleError where the folder is incomplete, or where config and weights do not fit each other tensor by tensor.
    """
    read_config(folder)
    try:
        with torch.device("cpu"), NoRandomStart(), _without_warning():
            net, _, transform = open_clip.create_model_and_transforms(
                f"local-dir:{folder}", precision="fp32", pretrained_hf=False, load_weights=False, text_cfg=dict(_NO_TEXT)
            )
        scale = _place_weights(net.visual, folder / WEIGHTS)
        tower = ImageTower(net.visual, scale).eval().to(device)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(
            f"{folder}: this model cannot be opened ({type(error).__name__}: {reason}); import it again"
        ) from error
    return ImageModel(tower, transform)


def _place_weights(visual: nn.Module, path: Path) -> torch.Tensor:
    """Copy every tensor of the image tower into its place; the logit scale. Raises RuntimeError where one is missing."""
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(_PREFIX)]  # noqa: SIM118
        state = {name.removeprefix(_PREFIX): file.get_tensor(name) for name in names}
        scale: torch.Tensor = file.get_tensor("logit_scale").float()
    visual.load_state_dict(state, strict=True)
    return scale


class NoRandomStart(TorchFunctionMode):
    """Skips the random start of weights that are all replaced: seconds for a full-size model."""

    _SKIPPED: Final = frozenset(
        getattr(torch.Tensor, name)
        for name in ("normal_", "uniform_", "erfinv_", "trunc_normal_")
        if hasattr(torch.Tensor, name)
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in self._SKIPPED else func(*args, **(kwargs or {}))


@contextmanager
def _without_warning() -> Iterator[None]:
    """open_clip warns that weights were not loaded, which is meant here."""
    root = logging.getLogger()
    root.addFilter(_is_other)
    try:
        yield
    finally:
        root.removeFilter(_is_other)


def _is_other(record: logging.LogRecord) -> bool:
    return "No pretrained weights loaded" not in str(record.msg)
