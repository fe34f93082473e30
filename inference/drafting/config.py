"""``config.json`` of a drafting bundle: the shapes of the model, how an image is prepared, and how a caption is asked for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from inference.drafting.generation import GenerationSettings
from inference.drafting.layers import PATCH_STRIDE, OfaConfig
from inference.errors import BundleError

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
HALF: Final = (0.5, 0.5, 0.5)
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """RGB → ``size`` × ``size`` pixels bicubic, aspect not kept → 0..1 → minus ``mean``, over ``std``, per channel."""

    size: int
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("preprocess.mean and preprocess.std are three numbers each, std above 0")


@dataclass(frozen=True, slots=True)
class Caption:
    """The reference's captioning task: its prompt (the leading space is meant) and its evaluation settings."""

    prompt: str = " what does the image describe?"
    search: GenerationSettings = field(default_factory=lambda: GenerationSettings(beam=10, max_length=32, no_repeat_ngram=3))


@dataclass(frozen=True, slots=True)
class DraftingConfig:
    """``codes`` and ``bins``: image-code and location tokens after the dictionary."""

    model: OfaConfig
    codes: int
    bins: int
    preprocess: Preprocess
    caption: Caption = field(default_factory=Caption)

    def __post_init__(self) -> None:
        largest = PATCH_STRIDE * self.model.image_bucket
        if not PATCH_STRIDE <= self.preprocess.size <= largest:
            raise BundleError(
                f"{CONFIG}: preprocess.size {self.preprocess.size} is outside {PATCH_STRIDE}..{largest} pixels, "
                f"what the model's image_bucket {self.model.image_bucket} has positions for"
            )
        longest = self.caption.search.max_length + 1
        if longest > self.model.max_positions:
            raise BundleError(
                f"{CONFIG}: caption.search.max_length must be below {self.model.max_positions}, the model's positions"
            )


def write_config(config: DraftingConfig, folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps(asdict(config), indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_config(path: Path) -> DraftingConfig:
    """Raises BundleError naming the file and what is wrong with it."""
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        model = dict(data["model"])
        model["resnet_layers"] = tuple(model["resnet_layers"])
        preprocess, caption = data["preprocess"], data["caption"]
        return DraftingConfig(
            model=OfaConfig(**model),
            codes=int(data["codes"]),
            bins=int(data["bins"]),
            preprocess=Preprocess(int(preprocess["size"]), tuple(preprocess["mean"]), tuple(preprocess["std"])),
            caption=Caption(str(caption["prompt"]), GenerationSettings(**caption["search"])),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: damaged or incomplete ({error!r}); import the bundle again") from error
