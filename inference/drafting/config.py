"""``config.json`` of a drafting bundle: the shapes of the model, how an image is prepared, what it is fit for and how each task
is asked for.

Settings of tasks that a bundle does not state are the reference's published ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from inference.drafting.generation import GenerationSettings
from inference.drafting.layers import PATCH_STRIDE, OfaConfig
from inference.drafting.results import DecoderPrompt, Task
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


DESCRIBE: Final = " what does the image describe?"  # the leading space is meant, in every prompt


@dataclass(frozen=True, slots=True)
class Caption:
    """The reference's captioning task: its prompt and its evaluation settings."""

    prompt: str = DESCRIBE
    search: GenerationSettings = field(default_factory=lambda: GenerationSettings(beam=10, max_length=32, no_repeat_ngram=3))


@dataclass(frozen=True, slots=True)
class Vqa:
    """Visual questions. ``temperature``: of the softmax over candidate answers, 1 as trained; a site may fit its own."""

    decoder_prompt: DecoderPrompt = DecoderPrompt.PREV_OUTPUT
    search: GenerationSettings = field(default_factory=lambda: GenerationSettings(beam=1, normalise=False))
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_temperature("vqa", self.temperature)


@dataclass(frozen=True, slots=True)
class Classification:
    """Labels of an image, asked for as the reference does: with the captioning prompt."""

    prompt: str = DESCRIBE
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_temperature("classification", self.temperature)


@dataclass(frozen=True, slots=True)
class Nli:
    """Natural-language inference. ``labels``: the model's words for entailment, contradiction and neutral."""

    decoder_prompt: DecoderPrompt = DecoderPrompt.SRC
    labels: tuple[str, str, str] = ("yes", "no", "maybe")

    def __post_init__(self) -> None:
        if len({label.strip() for label in self.labels} - {""}) != 3:
            raise ValueError("nli.labels are three different words: for entailment, contradiction and neutral")


@dataclass(frozen=True, slots=True)
class Summarisation:
    """``tokens``: how much of the source is read, its prompt included."""

    search: GenerationSettings = field(
        default_factory=lambda: GenerationSettings(beam=5, max_length=128, no_repeat_ngram=3, length_penalty=0.7)
    )
    tokens: int = 512


def _check_temperature(task: str, temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"{task}.temperature must be above 0")


@dataclass(frozen=True, slots=True)
class DraftingConfig:
    """``codes`` and ``bins``: image-code and location tokens after the dictionary. ``tasks``: what the model was trained for.

    ``images_per_study``: from how many views of a study a draft is written, one image each.
    """

    model: OfaConfig
    codes: int
    bins: int
    preprocess: Preprocess
    caption: Caption = field(default_factory=Caption)
    tasks: tuple[Task, ...] = (Task.CAPTION,)
    vqa: Vqa = field(default_factory=Vqa)
    classification: Classification = field(default_factory=Classification)
    nli: Nli = field(default_factory=Nli)
    summary: Summarisation = field(default_factory=Summarisation)
    images_per_study: int = 2

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
        if self.images_per_study < 1:
            raise BundleError(f"{CONFIG}: images_per_study must be at least 1")

    def search(self, task: Task) -> GenerationSettings:
        """How the task is searched, no longer than the model has positions for (the reference shortens it in silence too)."""
        search = {Task.VQA: self.vqa.search, Task.SUMMARY: self.summary.search}.get(task, self.caption.search)
        longest = self.model.max_positions - 1
        return replace(search, max_length=min(search.max_length, longest), min_length=min(search.min_length, longest))


# fairseq's name of a checkpoint's task, or a part of it, to what the checkpoint is fit for.
_FITNESS: Final = (
    ("caption", (Task.CAPTION,)),
    ("vqa", (Task.VQA,)),
    ("classif", (Task.CLASSIFICATION,)),
    ("nli", (Task.NLI,)),
    ("summ", (Task.SUMMARY,)),
    ("gigaword", (Task.SUMMARY,)),
)
PRETRAINED: Final = (Task.CAPTION, Task.VQA)  # of the five, those in the pretraining mixture


def default_tasks(trained_for: str) -> tuple[Task, ...]:
    """What a checkpoint is fit for, by the fairseq task it was trained with; empty or unknown counts as pretrained."""
    return next((tasks for part, tasks in _FITNESS if part in trained_for), PRETRAINED)


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
            tasks=tuple(Task(name) for name in data.get("tasks", [Task.CAPTION])),
            vqa=_settings(Vqa, data.get("vqa", {})),
            classification=_settings(Classification, data.get("classification", {})),
            nli=_settings(Nli, data.get("nli", {})),
            summary=_settings(Summarisation, data.get("summary", {})),
            images_per_study=int(data.get("images_per_study", 2)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: damaged or incomplete ({error!r}); import the bundle again") from error


_Settings = TypeVar("_Settings", Vqa, Classification, Nli, Summarisation)
_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "search": lambda given: GenerationSettings(**given),
    "decoder_prompt": DecoderPrompt,
    "labels": tuple,
}


def _settings(kind: type[_Settings], stated: dict[str, Any]) -> _Settings:
    """A task's settings, those not stated as published."""
    known = {f.name for f in fields(kind)}
    if unknown := set(stated) - known:
        raise ValueError(f"unknown setting {min(unknown)!r} of {kind.__name__}; known: {', '.join(sorted(known))}")
    given: dict[str, Any] = {name: _READERS[name](value) if name in _READERS else value for name, value in stated.items()}
    return kind(**given)
