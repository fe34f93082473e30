"""Draft report text for frames, by BiomedGPT's captioning."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from inference.bundles import Bundle
from inference.drafting.checkpoints import load_safetensors
from inference.drafting.config import CONFIG, WEIGHTS, DraftingConfig, read_config
from inference.drafting.generation import Hypothesis, generate
from inference.drafting.images import is_uniform, prepare
from inference.drafting.model import EOS, Ofa, empty_model
from inference.drafting.tokenizer import Tokenizer
from inference.errors import BundleError, DeviceError
from inference.reading import DraftReport, Frame, Sentence

IMAGES_AT_ONCE: Final = 16  # with beam 10 a batch of the base model then needs about 2 GB
UNIFORM: Final = "no draft: the image is uniform"
NO_TEXT: Final = "no draft: the model gave no text for this image"
# A sentence ends at . ! or ? before a space; "3.5 cm" has none.
_END_OF_SENTENCE: Final = re.compile(r"[.!?](?=\s)")


class Drafter:
    """BiomedGPT on one device. Use from one thread."""

    def __init__(self, bundle: Bundle, model: Ofa, tokenizer: Tokenizer, config: DraftingConfig, device: torch.device) -> None:
        self.bundle: Final = bundle
        self._model, self._tokenizer, self._config, self._device = model, tokenizer, config, device
        prompt = [*tokenizer.encode(config.caption.prompt), EOS]
        self._prompt = torch.tensor([[0, *prompt]], device=device)  # (1, text)

    @classmethod
    def load(cls, bundle: Bundle, device: torch.device) -> Drafter:
        """Raises BundleError where a file of the bundle is missing, damaged or of another shape, DeviceError for the device."""
        config = read_config(bundle.path(CONFIG))
        tokenizer = Tokenizer.load(bundle.folder, codes=config.codes, bins=config.bins)
        model = load_model(bundle, config)
        if len(tokenizer) != config.model.vocabulary:
            raise BundleError(
                f"{bundle.folder}: {len(tokenizer)} tokens in its tokenizer, {config.model.vocabulary} in its model"
            )
        try:
            return cls(bundle, model.to(device), tokenizer, config, device)
        except (RuntimeError, AssertionError) as error:
            raise DeviceError(f"{device}: the drafting model cannot be put there ({_first_line(error)})") from error

    def draft(self, frames: Sequence[Frame]) -> list[DraftReport]:
        """One draft per frame, in order; a frame that gives no text has a ``reason``. Raises DeviceError (retryable)."""
        drafts = [DraftReport((), reason=UNIFORM, source=frame.source) for frame in frames]
        readable = [i for i, frame in enumerate(frames) if not is_uniform(frame.pixels)]
        for start in range(0, len(readable), IMAGES_AT_ONCE):
            batch = readable[start : start + IMAGES_AT_ONCE]
            for i, best in zip(batch, self._caption([frames[i] for i in batch]), strict=True):
                sentences = tuple(split_sentences(best, self._tokenizer))
                drafts[i] = DraftReport(sentences, reason="" if sentences else NO_TEXT, source=frames[i].source)
        return drafts

    @torch.inference_mode()
    def _caption(self, frames: Sequence[Frame]) -> list[Hypothesis]:
        images = torch.stack([prepare(frame.pixels, self._config.preprocess) for frame in frames])  # (B, 3, S, S)
        prompt = self._prompt.expand(len(frames), -1)  # (B, text)
        try:
            encoded = self._model.encode(prompt, images.to(self._device))
            return [hypotheses[0] for hypotheses in generate(self._model, encoded, self._config.caption.search)]
        except (RuntimeError, MemoryError) as error:
            # A lost accelerator raises bare RuntimeErrors; on the processor those are faults of ours, not worth a retry.
            if self._device.type == "cpu" and not isinstance(error, torch.OutOfMemoryError | MemoryError):
                raise
            raise DeviceError(f"{self._device}: drafting failed ({_first_line(error)})") from error


def load_model(bundle: Bundle, config: DraftingConfig) -> Ofa:
    """The bundle's model in float32 on the CPU, in evaluation mode. Raises BundleError where weights and config disagree."""
    tensors = load_safetensors(bundle.path(WEIGHTS))
    model = empty_model(config.model)
    try:
        model.load_state_dict({name: _upcast(tensor) for name, tensor in tensors.items()}, assign=True)
    except RuntimeError as error:
        raise BundleError(f"{bundle.path(WEIGHTS)}: not the model that {CONFIG} describes ({error})") from error
    return model


def split_sentences(hypothesis: Hypothesis, tokenizer: Tokenizer) -> Iterator[Sentence]:
    """The hypothesis as sentences, each with exp(mean log-probability) of the tokens that end in it.

    Tokens that are no text (image codes, locations) are left out.
    """
    pairs = zip(hypothesis.tokens, hypothesis.log_probabilities, strict=True)
    words = [(token, log) for token, log in pairs if tokenizer.is_text(token)]
    text = tokenizer.decode(token for token, _ in words)
    ends = [match.end() for match in _END_OF_SENTENCE.finditer(text)]
    upto = [len(tokenizer.decode(token for token, _ in words[: i + 1])) for i in range(len(words))]
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        logs = [log for (_, log), place in zip(words, upto, strict=True) if start < place <= end]
        sentence = text[start:end].strip()
        if sentence and logs:
            yield Sentence(sentence, math.exp(sum(logs) / len(logs)))


def _upcast(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
