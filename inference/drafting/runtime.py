"""A loaded model with everything a task needs to use it: texts and frames in, encoded batches and hypotheses out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import torch
from torch import Tensor

from inference.devices import device_errors
from inference.drafting.config import DraftingConfig
from inference.drafting.generation import Constraint, GenerationSettings, Hypothesis, TokenSet, generate
from inference.drafting.images import is_uniform, prepare
from inference.drafting.model import BOS, EOS, PAD, Encoded, Ofa
from inference.drafting.results import DecoderPrompt
from inference.drafting.tokenizer import Tokenizer
from inference.drafting.trie import Trie
from inference.errors import InputError
from inference.reading import Frame

AT_ONCE: Final = 16  # images; with beam 10 a batch of the base model then needs about 2 GB
UNIFORM: Final = "the image is uniform"
DRAFTING: Final = "drafting"
Ids = list[int]
_Result = TypeVar("_Result")


class PlainText(TokenSet):
    """Lets a search write text and nothing else: pretrained models also write image codes."""

    def __init__(self, tokenizer: Tokenizer, device: torch.device) -> None:
        text = [token == EOS or tokenizer.is_text(token) for token in range(len(tokenizer))]
        super().__init__(torch.tensor(text, device=device))


class Runtime:
    """The model on its device. Use from one thread."""

    def __init__(self, model: Ofa, tokenizer: Tokenizer, config: DraftingConfig, device: torch.device) -> None:
        self.model, self.tokenizer, self.config, self.device = model, tokenizer, config, device
        self.text_only: Final = PlainText(tokenizer, device)

    def source(self, text: str) -> Ids:
        """The ids of a prompt with bos and eos. Raises InputError where the model has too few positions for it."""
        ids = [BOS, *self.tokenizer.encode(text), EOS]
        if len(ids) > self.config.model.max_positions:
            raise InputError(
                f"the text is {len(ids)} tokens long with its prompt; this model reads {self.config.model.max_positions}. "
                "Give a shorter one"
            )
        return ids

    def prefix(self, source: Ids, kind: DecoderPrompt, room: int) -> Ids:
        """What the decoder is given of a source, bos left out. ``room``: positions the answer needs. Raises InputError."""
        given = {DecoderPrompt.NONE: [], DecoderPrompt.SRC: source[1:], DecoderPrompt.PREV_OUTPUT: source[1:-1]}[kind]
        if len(given) + room > self.config.model.max_positions:
            raise InputError(
                f"the text is {len(given)} tokens long and leaves no room for an answer among the model's "
                f"{self.config.model.max_positions} positions; shorten it"
            )
        return given

    def candidates(self, texts: Sequence[str]) -> Trie:
        """The tree of " text" for each. Raises InputError for none, an empty one or one given twice."""
        stripped = [text.strip() for text in texts]
        return Trie([self.tokenizer.encode(f" {text}") if text else [] for text in stripped], len(self.tokenizer), self.device)

    @torch.inference_mode()
    def encode(self, sources: Sequence[Ids], frames: Sequence[Frame] | None = None) -> Encoded:
        """One batch; ``frames[i]`` goes with ``sources[i]``. Raises DeviceError."""
        with device_errors(self.device, DRAFTING):
            images = None
            if frames is not None:
                stacked = torch.stack([prepare(frame.pixels, self.config.preprocess) for frame in frames])  # (B, 3, S, S)
                images = stacked.to(self.device)
            return self.model.encode(padded(sources, self.device), images)

    def search(
        self,
        encoded: Encoded,
        settings: GenerationSettings,
        prefixes: Sequence[Ids] | None = None,
        constraint: Constraint | None = None,
    ) -> list[list[Hypothesis]]:
        """The best hypotheses of each row, best first. Raises DeviceError."""
        prefix = padded(prefixes, self.device) if prefixes is not None and any(prefixes) else None
        with device_errors(self.device, DRAFTING):
            return generate(self.model, encoded, settings, prefix, constraint)


def padded(rows: Sequence[Ids], device: torch.device) -> Tensor:
    """int64 (rows, longest), 1 after the end of each."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows], dtype=torch.long, device=device)


def reason_not_to_read(frame: Frame | None) -> str:
    """Why nothing can be said of a frame; empty where something may be, and where there is no frame at all."""
    return UNIFORM if frame is not None and is_uniform(frame.pixels) else ""


def in_groups(count: int, key: Callable[[int], object], run: Callable[[list[int]], list[_Result]]) -> list[_Result]:
    """Results for 0..count−1 in order. ``run`` gets at most ``AT_ONCE`` indices of one key and gives their results."""
    groups: dict[object, list[int]] = {}
    for i in range(count):
        groups.setdefault(key(i), []).append(i)
    found: dict[int, _Result] = {}
    for members in groups.values():
        for start in range(0, len(members), AT_ONCE):
            batch = members[start : start + AT_ONCE]
            found |= zip(batch, run(batch), strict=True)
    return [found[i] for i in range(count)]
