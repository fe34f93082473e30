"""BiomedGPT as the node uses it: one loaded bundle, every task a method, and none that the bundle is not fit for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from inference.bundles import Bundle
from inference.devices import first_line
from inference.drafting import tasks
from inference.drafting.checkpoints import load_safetensors
from inference.drafting.config import CONFIG, WEIGHTS, DraftingConfig, read_config
from inference.drafting.model import Ofa, empty_model
from inference.drafting.precision import prepare
from inference.drafting.results import Answer, Choice, Inference, Summary, Task
from inference.drafting.runtime import Runtime
from inference.drafting.studies import draft_studies, draft_study
from inference.drafting.tokenizer import Tokenizer
from inference.errors import BundleError, DeviceError
from inference.reading import DraftReport, Frame


class Drafter:
    """BiomedGPT on one device. Use from one thread.

    Every task raises DeviceError (retryable) where the device fails, InputError where a text or a list of candidates cannot be
    used, and BundleError where the bundle's ``config.json`` does not name the task among those it is fit for.
    """

    def __init__(
        self,
        bundle: Bundle,
        model: Ofa,
        tokenizer: Tokenizer,
        config: DraftingConfig,
        device: torch.device,
        precision: str = "float32",
    ) -> None:
        self.bundle: Final = bundle
        self.precision: Final = precision  # what runs: float32 or bfloat16
        self.tasks: Final = frozenset(config.tasks)
        self._run: Final = Runtime(model, tokenizer, config, device)

    @classmethod
    def load(cls, bundle: Bundle, device: torch.device, *, precision: str = "float32", cache: Path | None = None) -> Drafter:
        """``precision`` and ``cache`` as ``precision.prepare``.

        Raises BundleError where a file of the bundle is missing, damaged or of another shape, DeviceError for the device.
        """
        config = read_config(bundle.path(CONFIG))
        tokenizer = Tokenizer.load(bundle.folder, codes=config.codes, bins=config.bins)
        model = load_model(bundle, config)
        if len(tokenizer) != config.model.vocabulary:
            raise BundleError(
                f"{bundle.folder}: {len(tokenizer)} tokens in its tokenizer, {config.model.vocabulary} in its model"
            )
        try:
            ready = prepare(model, device, precision=precision, cache=cache)
            return cls(bundle, ready.model, tokenizer, config, device, ready.precision)
        except (RuntimeError, AssertionError) as error:
            raise DeviceError(f"{device}: the drafting model cannot be put there ({first_line(error)})") from error

    def draft(self, frames: Sequence[Frame]) -> list[DraftReport]:
        """One draft per frame, in order; a frame that gives no text has a ``reason``."""
        self._require(Task.CAPTION)
        return tasks.draft(self._run, frames)

    def draft_study(self, frames: Sequence[Frame], *, images: int | None = None) -> DraftReport:
        """One draft of a study: of the best image of each view, at most ``images`` of them (None: as the bundle says).

        Each sentence names the image it was written from. Where the bundle can summarise, the draft has an impression.
        """
        self._require(Task.CAPTION)
        return draft_study(self._run, frames, images)

    def draft_studies(self, studies: Sequence[Sequence[Frame]], *, images: int | None = None) -> list[DraftReport]:
        """``draft_study`` of several studies in common batches: the same drafts, several times cheaper each."""
        self._require(Task.CAPTION)
        return draft_studies(self._run, studies, images)

    def ask(
        self, frames: Sequence[Frame | None], questions: Sequence[str], *, among: Sequence[str] | None = None
    ) -> list[Answer]:
        """Visual questions, ``questions[i]`` about ``frames[i]`` (None: no image), answered in the model's own words.

        ``among``: answer with one of these, found by constrained decoding; ``choose`` scores them all.
        """
        self._require(Task.VQA)
        _check_lengths(frames, questions)
        return tasks.ask(self._run, frames, questions, among)

    def choose(
        self,
        frames: Sequence[Frame | None],
        questions: Sequence[str],
        candidates: Sequence[str],
        *,
        temperature: float | None = None,
    ) -> list[Choice]:
        """Visual questions answered from a list, every candidate scored. ``temperature`` None: as the bundle says."""
        self._require(Task.VQA)
        _check_lengths(frames, questions)
        return tasks.choose(self._run, frames, questions, candidates, temperature)

    def classify(self, frames: Sequence[Frame], labels: Sequence[str], *, temperature: float | None = None) -> list[Choice]:
        """Which of the labels each image has: one label per image, every label scored."""
        self._require(Task.CLASSIFICATION)
        return tasks.classify(self._run, frames, labels, temperature)

    def infer(self, pairs: Sequence[tuple[str, str]]) -> list[Inference]:
        """What each premise says of its hypothesis; pairs are (premise, hypothesis)."""
        self._require(Task.NLI)
        return tasks.infer(self._run, pairs)

    def summarise(self, texts: Sequence[str]) -> list[Summary]:
        """A shorter text of each: of findings the impression, of a prior report its summary."""
        self._require(Task.SUMMARY)
        return tasks.summarise(self._run, texts)

    def label_texts(self, prompts: Sequence[str], labels: Sequence[str]) -> list[Choice]:
        """Text understanding at large: every label of each prompt scored. For a bundle fine-tuned on such prompts."""
        return tasks.label_texts(self._run, prompts, labels)

    def _require(self, task: Task) -> None:
        if task not in self.tasks:
            raise BundleError(
                f"{self.bundle.folder}: this model was not trained for {task.value}; it is fit for "
                f"{', '.join(sorted(self.tasks)) or 'nothing'} (`tasks` in its {CONFIG}). Use a bundle that is"
            )


def load_model(bundle: Bundle, config: DraftingConfig) -> Ofa:
    """The bundle's model in float32 on the CPU, in evaluation mode. Raises BundleError where weights and config disagree."""
    tensors = load_safetensors(bundle.path(WEIGHTS))
    model = empty_model(config.model)
    try:
        model.load_state_dict({name: _upcast(tensor) for name, tensor in tensors.items()}, assign=True)
    except RuntimeError as error:
        raise BundleError(f"{bundle.path(WEIGHTS)}: not the model that {CONFIG} describes ({error})") from error
    return model


def _upcast(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _check_lengths(frames: Sequence[Frame | None], questions: Sequence[str]) -> None:
    if len(frames) != len(questions):
        raise ValueError(f"{len(frames)} frames but {len(questions)} questions; each frame goes with one question")
