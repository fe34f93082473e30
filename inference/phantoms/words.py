"""The phantom's text tower learns its few words first, and is then locked (after Zhai 2022, LiT, turned round).

An untrained BERT says nearly the same of every sentence, so an image tower that learns against it learns nothing for long.
Here every finding, every side, every kind of device and every kind of image gets an axis of its own; a sentence that affirms
it lies on one side of the axis, one that denies it on the other, and a caption lies where all that it says adds up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from inference.phantoms.lesions import KEYS
from inference.phantoms.phrases import AXES, SIDED, Phrases, caption_meaning, device_phrases, meaning_of, side_phrases
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.open_clip_folder import ContrastiveModel


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """What the image tower is taught against, in the text tower's own words; each row float32 (width,).

    ``findings``: positive less negative direction of each of ``KEYS``, as triage forms them. ``kinds``: one unit direction for
    each kind. ``sides``: left less right for each of ``SIDED``. ``devices``: one unit direction for each of ``DEVICES``.
    """

    findings: torch.Tensor
    kinds: torch.Tensor
    sides: torch.Tensor
    devices: torch.Tensor


def catalogue_phrases(catalogue: FindingsCatalogue, kinds: Mapping[str, Sequence[str]]) -> Phrases:
    """Every text of the catalogue with its meaning; a finding that is never drawn has only what all sentences share."""
    texts: list[str] = []
    meanings: list[NDArray[np.float32]] = []
    for entry in catalogue.findings:
        for prompts, sign in ((entry.positive, 1.0), (entry.negative, -1.0)):
            said = catalogue.texts(prompts)
            texts += said
            meanings += [meaning_of({entry.key: sign} if entry.key in KEYS else {})] * len(said)
    for kind, words in kinds.items():
        texts += words
        meanings += [meaning_of({kind: 1.0})] * len(words)
    return Phrases(tuple(texts), np.stack(meanings))


def caption_phrases(captions: Sequence[str], labels: NDArray[np.bool_]) -> Phrases:
    return Phrases(tuple(captions), np.stack([caption_meaning(*pair) for pair in zip(labels, captions, strict=True)]))


def teach_words(model: ContrastiveModel, lessons: Sequence[Phrases], *, steps: int, rng: torch.Generator) -> list[float]:
    """Train the text tower alone and lock it. Returns each lesson's mean cosine to where its texts should lie, at most 1.

    At every step 64 texts of each lesson are heard.
    """
    net: Any = model.net
    axes = _axes(net, rng)
    tokens = [trim(model.tokenize(list(lesson.texts))) for lesson in lessons]
    goals = [functional.normalize(torch.from_numpy(lesson.meanings) @ axes, dim=1) for lesson in lessons]
    optimiser = torch.optim.AdamW(net.text.parameters(), 1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    near = [torch.zeros(()) for _ in lessons]
    for _ in range(steps):
        heard = [torch.randint(len(goal), (64,), generator=rng) for goal in goals]
        near = [
            (net.encode_text(said[some], normalize=True) * goal[some]).sum(1).mean()
            for said, goal, some in zip(tokens, goals, heard, strict=True)
        ]
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(-torch.stack(near).sum())
        optimiser.step()
        schedule.step()
    net.text.requires_grad_(False)
    return [float(value.detach()) for value in near]


def directions(model: ContrastiveModel, catalogue: FindingsCatalogue, kinds: Mapping[str, Sequence[str]]) -> Directions:
    entries = {entry.key: entry for entry in catalogue.findings}
    findings = [[catalogue.texts(entries[key].positive), catalogue.texts(entries[key].negative)] for key in KEYS]
    with torch.no_grad():
        return Directions(
            torch.stack([_mean(model, positive) - _mean(model, negative) for positive, negative in findings]),
            torch.stack([_mean(model, texts) for texts in kinds.values()]),
            torch.stack([_mean(model, left) - _mean(model, right) for right, left in map(side_phrases, SIDED)]),
            torch.stack([_mean(model, texts) for texts in device_phrases()]),
        )


def trim(tokens: torch.Tensor) -> torch.Tensor:
    """Without the columns that are padding in every row."""
    return tokens[:, : int((tokens != 0).sum(1).max())]


def _mean(model: ContrastiveModel, texts: Sequence[str]) -> torch.Tensor:
    vectors: torch.Tensor = model.net.encode_text(trim(model.tokenize(list(texts))), normalize=True)
    return functional.normalize(vectors.mean(0), dim=0)


def _axes(net: Any, rng: torch.Generator) -> torch.Tensor:
    """Orthonormal rows in the order of ``AXES``, (axes, width)."""
    width = net.visual.head.proj.out_features
    axes: torch.Tensor = torch.linalg.qr(torch.randn(width, len(AXES), generator=rng))[0]
    return axes.T.contiguous()
