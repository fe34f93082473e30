"""Train the phantom BiomedCLIP: ``python -m inference.phantoms.train_triage --out FOLDER``.

A tiny open_clip model of the real form learns from drawn films alone: first the words, then films against the catalogue's own
prompts and (while it trains) each patch against the boxes of what was drawn there, without which a vision transformer needs
far more films to see a nodule. About 25 minutes on one core, the drawing of 16,000 films included.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from inference.bundles import PHANTOM_MARK, Bundle, BundleCard, write_manifest
from inference.phantoms.clip_form import IMAGE_SIZE, write_form
from inference.phantoms.films import CHECKING_SEEDS, TRAINING_SEEDS, Films, cached_films
from inference.phantoms.lesions import KEYS
from inference.phantoms.vit_start import start_vit
from inference.phantoms.words import contrasts, teach_words
from inference.reading import UseMode
from inference.triage.catalogue import load_catalogue
from inference.triage.contrastive import JUDGES
from inference.triage.open_clip_folder import WEIGHTS, ContrastiveModel, open_folder

CATALOGUE: Final = Path(__file__).resolve().parents[2] / "config" / "findings" / "chest_xray.yaml"
_MEAN: Final = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
_STD: Final = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
_RARITY: Final = torch.tensor([6.0, 8.0, 12.0, 4.0, 30.0, 8.0])  # of a patch that shows the finding, in the order of KEYS
_LARGEST_SCALE: Final = 100.0  # as CLIP clips it


@dataclass(frozen=True, slots=True)
class Recipe:
    """``shift``: the most pixels a film is moved by."""

    films: int = 16000
    checked: int = 800
    epochs: int = 6
    batch: int = 32
    rate: float = 3e-3
    decay: float = 0.05
    shift: int = 6
    patch_weight: float = 1.0
    word_steps: int = 300
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """``images``: (n, 3, size, size), normalised. ``patches``: whether a finding lies on a patch, (n, patches, findings)."""

    images: torch.Tensor
    labels: torch.Tensor
    patches: torch.Tensor


class Trainer:
    """Trains the image tower against a text tower that has learnt its words and is locked."""

    def __init__(self, model: ContrastiveModel, contrast: torch.Tensor, recipe: Recipe) -> None:
        self.net, self.contrast, self.recipe = model.net, contrast, recipe
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.patch_head = nn.Linear(self.net.visual.trunk.num_features, len(KEYS))  # leaves with the training
        self.optimisers = _optimisers([*self.net.visual.named_parameters(), *self.patch_head.named_parameters()], recipe)
        self.optimisers[0].add_param_group({"params": [self.net.logit_scale], "weight_decay": 0.0})

    def fit(self, films: Films, checked: Films) -> None:
        start_vit(self.net.visual.trunk, films.pixels[:500], _MEAN, _STD)
        steps = self.recipe.epochs * (len(films) // self.recipe.batch)
        started, step = time.monotonic(), 0
        for epoch in range(self.recipe.epochs):
            self.net.train()
            for batch in self._batches(films):
                for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
                    group["lr"] = self.recipe.rate * _schedule(step, steps)
                self._step(batch, patch_weight=self.recipe.patch_weight * (1 - step / steps))
                step += 1
            aucs = area_under_curve(self.margins(checked.pixels), checked.labels)
            shown = " ".join(f"{key} {value:.3f}" for key, value in zip(KEYS, aucs, strict=True))
            print(f"epoch {epoch + 1}: {time.monotonic() - started:.0f} s, AUC {shown}", flush=True)

    def calibrate(self, films: Films) -> None:
        """Set the logit scale so that the probabilities of unseen films are as honest as one number can make them."""
        with torch.inference_mode():
            margins = torch.from_numpy(self.margins(films.pixels))
        targets = torch.from_numpy(films.labels).float()
        scales = torch.linspace(2.0, _LARGEST_SCALE, 200)
        losses = [functional.binary_cross_entropy_with_logits(margins * scale, targets) for scale in scales]
        best = scales[int(torch.stack(losses).argmin())]
        self.net.logit_scale.data.fill_(math.log(float(best)))

    def margins(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Similarity to the positive set less that to the negative, (films, findings), before the logit scale."""
        self.net.eval()
        with torch.inference_mode():
            parts = [self.net.encode_image(_normalise(part), normalize=True) @ self.contrast.T for part in _split(pixels)]
            whole: NDArray[np.float32] = torch.cat(parts).numpy()
        return whole

    def _step(self, batch: Batch, patch_weight: float) -> None:
        net, trunk = self.net, self.net.visual.trunk
        tokens = trunk.forward_features(batch.images)  # (n, prefix + patches, width)
        vectors = functional.normalize(net.visual.head(trunk.forward_head(tokens)), dim=-1)  # (n, width)
        scale = net.logit_scale.exp().clamp(max=_LARGEST_SCALE)
        margins = scale * vectors @ self.contrast.T
        loss = functional.binary_cross_entropy_with_logits(margins, batch.labels)
        patches = self.patch_head(tokens[:, trunk.num_prefix_tokens :])
        loss = loss + patch_weight * functional.binary_cross_entropy_with_logits(patches, batch.patches, pos_weight=_RARITY)
        self.net.zero_grad(set_to_none=True)
        self.patch_head.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        for optimiser in self.optimisers:
            optimiser.step()

    def _batches(self, films: Films) -> Iterator[Batch]:
        order = torch.randperm(len(films), generator=self.rng)
        for chosen in torch.split(order, self.recipe.batch)[: len(films) // self.recipe.batch]:
            rows = chosen.numpy()
            images, boxes = self._vary(films.pixels[rows], torch.from_numpy(films.boxes[rows]))
            labels = torch.from_numpy(films.labels[rows]).float()
            yield Batch(images, labels, _on_patches(boxes) * labels[:, None])

    def _vary(self, pixels: NDArray[np.uint8], boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Move the film a little, and change its exposure and grain."""
        most = self.recipe.shift
        down, across = torch.randint(-most, most + 1, (2,), generator=self.rng).tolist()
        grey = torch.from_numpy(pixels).float()[:, None] / 255
        grey = functional.pad(grey, (most,) * 4, mode="replicate")
        grey = grey[..., most - down : most - down + IMAGE_SIZE, most - across : most - across + IMAGE_SIZE]
        gain = 0.85 + 0.3 * torch.rand(len(grey), 1, 1, 1, generator=self.rng)
        lift = 0.12 * (torch.rand(len(grey), 1, 1, 1, generator=self.rng) - 0.5)
        grain = 0.02 * torch.rand(len(grey), 1, 1, 1, generator=self.rng) * torch.randn(grey.shape, generator=self.rng)
        grey = ((grey - 0.5) * gain + 0.5 + lift + grain).clamp(0, 1)
        return (grey - _MEAN) / _STD, boxes + torch.tensor([down, across, down, across]) / IMAGE_SIZE


def _optimisers(weights: list[tuple[str, nn.Parameter]], recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks (Jordan 2024: about half the steps), AdamW for the rest."""
    inner = [weight for name, weight in weights if ".blocks." in name and weight.ndim == 2]
    outer = [weight for name, weight in weights if not (".blocks." in name and weight.ndim == 2)]
    adam = torch.optim.AdamW(outer, recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.decay)
    return [adam, torch.optim.Muon(inner, recipe.rate, weight_decay=recipe.decay, adjust_lr_fn="match_rms_adamw")]


def _schedule(step: int, steps: int, warm: int = 60) -> float:
    return min(1.0, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _on_patches(boxes: torch.Tensor, patch: int = 16) -> torch.Tensor:
    """How much of each patch (of each box, where the box is smaller) a box covers, (n, patches, findings)."""
    side = IMAGE_SIZE // patch
    start = torch.arange(side) / side
    rows = (torch.minimum(boxes[..., 2:3], start + 1 / side) - torch.maximum(boxes[..., 0:1], start)).clamp(min=0)
    cols = (torch.minimum(boxes[..., 3:4], start + 1 / side) - torch.maximum(boxes[..., 1:2], start)).clamp(min=0)
    rows = rows / (boxes[..., 2:3] - boxes[..., 0:1]).clamp(min=1e-6, max=1 / side)  # (n, findings, side)
    cols = cols / (boxes[..., 3:4] - boxes[..., 1:2]).clamp(min=1e-6, max=1 / side)
    return (rows[..., :, None] * cols[..., None, :]).flatten(2).transpose(1, 2).clamp(0, 1)


def _normalise(pixels: NDArray[np.uint8]) -> torch.Tensor:
    return (torch.from_numpy(pixels).float()[:, None] / 255 - _MEAN) / _STD


def _split(pixels: NDArray[np.uint8], size: int = 100) -> list[NDArray[np.uint8]]:
    return [pixels[start : start + size] for start in range(0, len(pixels), size)]


def area_under_curve(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> list[float]:
    """Area under the ROC curve of each column: how often a positive outranks a negative, ties counting half."""
    columns = []
    for score, label in zip(scores.T, labels.T, strict=True):
        positive, negative = score[label][:, None], score[~label][None]
        columns.append(float((positive > negative).mean() + 0.5 * (positive == negative).mean()))
    return columns


def save(folder: Path, net: Any) -> Bundle:
    """Write weights in half precision, the findings it knows, and the manifest."""
    state = {name: value.detach().half().contiguous() for name, value in net.state_dict().items()}
    save_file(state, str(folder / WEIGHTS), metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes 0600
    (folder / JUDGES).write_text(json.dumps({"findings": list(KEYS)}) + "\n", "utf-8")
    card = BundleCard(
        name="WetRead phantom BiomedCLIP",
        kind="biomedclip",
        version="1",
        source="inference/phantoms/train_triage.py of this project; drawn films only",
        licence="Apache-2.0",
        intended_use=f"showing and testing WetRead on drawn films; {PHANTOM_MARK}",
        allowed_modes=(UseMode.RESEARCH, UseMode.SHADOW, UseMode.ASSIST),
        phantom=True,
    )
    return write_manifest(folder, card)


def train(out: Path, cache: Path, recipe: Recipe, processes: int = 1) -> Bundle:
    torch.manual_seed(recipe.seed)
    cache.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    seen = range(TRAINING_SEEDS, TRAINING_SEEDS + recipe.films)
    films = cached_films(cache / f"train-{recipe.films}.npz", seen, IMAGE_SIZE, rich=True, processes=processes)
    unseen = range(CHECKING_SEEDS, CHECKING_SEEDS + recipe.checked)
    checked = cached_films(cache / f"check-{recipe.checked}.npz", unseen, IMAGE_SIZE, processes=processes)
    catalogue = load_catalogue(CATALOGUE)
    prompts = [text for entry in catalogue.findings for text in catalogue.texts(entry.positive + entry.negative)]
    write_form(out, [*prompts, *films.captions[:2000]])
    model = open_folder(out, torch.device("cpu"), weights=False)
    words = torch.Generator().manual_seed(recipe.seed)
    near = teach_words(model, catalogue, films.captions, films.labels, steps=recipe.word_steps, rng=words)
    print(f"words: mean cosine {near:.3f}", flush=True)
    trainer = Trainer(model, contrasts(model, catalogue), recipe)
    trainer.fit(films, checked)
    trainer.calibrate(checked)
    return save(out, model.net)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the phantom BiomedCLIP on drawn films.")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--cache", type=Path, default=Path("phantom-films"), help="where drawn films are kept between runs")
    parser.add_argument("--films", type=int, default=Recipe().films)
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    bundle = train(given.out, given.cache, Recipe(films=given.films, epochs=given.epochs), given.processes)
    print(f"{bundle.folder}: {bundle.card.name}, digest {bundle.digest[:12]}")


if __name__ == "__main__":
    main()
