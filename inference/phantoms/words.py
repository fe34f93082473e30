"""The phantom's text tower learns its few words first, and is then locked (after Zhai 2022, LiT, turned round).

An untrained BERT says nearly the same of every sentence, so an image tower that learns against it learns nothing for long.
Here every finding gets an axis of its own; a sentence that affirms it lies on one side of the axis, one that denies it on the
other, and a caption lies where all that it says adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from inference.phantoms.lesions import KEYS
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.open_clip_folder import ContrastiveModel


def teach_words(
    model: ContrastiveModel,
    catalogue: FindingsCatalogue,
    captions: Sequence[str],
    labels: NDArray[np.bool_],
    *,
    steps: int,
    rng: torch.Generator,
) -> float:
    """Train the text tower alone and lock it. Returns the mean cosine to where the catalogue's texts should lie, at most 1."""
    net: Any = model.net
    axes = _axes(net, rng)
    texts, signs = _catalogue_texts(catalogue)
    prompts, told = trim(model.tokenize(texts)), trim(model.tokenize(list(captions)))
    goals = functional.normalize(axes[0] + signs @ axes[1:], dim=1)
    caption_goals = functional.normalize(axes[0] + (torch.from_numpy(labels).float() * 2 - 1) @ axes[1:] / 2, dim=1)
    optimiser = torch.optim.AdamW(net.text.parameters(), 1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(steps):
        some = torch.randint(len(told), (64,), generator=rng)
        near = (net.encode_text(prompts, normalize=True) * goals).sum(1).mean()
        caption_near = (net.encode_text(told[some], normalize=True) * caption_goals[some]).sum(1).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(-near - caption_near)
        optimiser.step()
        schedule.step()
    net.text.requires_grad_(False)
    return float(near.detach())


def contrasts(model: ContrastiveModel, catalogue: FindingsCatalogue) -> torch.Tensor:
    """Positive less negative direction of each drawn finding, (findings, width), as triage forms them."""
    entries = {entry.key: entry for entry in catalogue.findings}
    with torch.no_grad():
        sides = [[_mean(model, catalogue.texts(s)) for s in (entries[k].positive, entries[k].negative)] for k in KEYS]
    return torch.stack([positive - negative for positive, negative in sides])


def trim(tokens: torch.Tensor) -> torch.Tensor:
    """Without the columns that are padding in every row."""
    return tokens[:, : int((tokens != 0).sum(1).max())]


def _mean(model: ContrastiveModel, texts: tuple[str, ...]) -> torch.Tensor:
    vectors: torch.Tensor = model.net.encode_text(trim(model.tokenize(list(texts))), normalize=True)
    return functional.normalize(vectors.mean(0), dim=0)


def _axes(net: Any, rng: torch.Generator) -> torch.Tensor:
    """Orthonormal rows: what all sentences share, then one for each finding, (1 + findings, width)."""
    width = net.visual.head.proj.out_features
    axes: torch.Tensor = torch.linalg.qr(torch.randn(width, 1 + len(KEYS), generator=rng))[0]
    return axes.T.contiguous()


def _catalogue_texts(catalogue: FindingsCatalogue) -> tuple[list[str], torch.Tensor]:
    """Every text of the catalogue and its sign on each axis, (texts, findings); 0 for findings that are never drawn."""
    texts: list[str] = []
    signs: list[torch.Tensor] = []
    for entry in catalogue.findings:
        axis = torch.tensor([float(key == entry.key) for key in KEYS])
        for prompts, sign in ((entry.positive, 1.0), (entry.negative, -1.0)):
            texts += catalogue.texts(prompts)
            signs += [axis * sign] * len(catalogue.texts(prompts))
    return texts, torch.stack(signs)
