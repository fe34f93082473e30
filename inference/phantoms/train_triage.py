"""Train the phantom BiomedCLIP: ``python -m inference.phantoms.train_triage --out FOLDER``.

A tiny open_clip model of the real form learns from drawn pictures alone: first the words, then films against the catalogue's
own prompts, pictures of every kind against the catalogue's words for kinds, and (while it trains) each patch against the boxes
of what was drawn there, without which a vision transformer needs far more films to see a nodule. About 35 minutes on one core,
the drawing of 16,000 films and 4,500 other pictures included.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from inference.bundles import PHANTOM_MARK, Bundle, BundleCard, write_manifest
from inference.phantoms.clip_form import IMAGE_SIZE, write_form
from inference.phantoms.films import CHECKING_SEEDS, TRAINING_SEEDS, Films, cached_films
from inference.phantoms.kind_films import KindFilms, cached_kinds
from inference.phantoms.kinds import KINDS, OTHERS
from inference.phantoms.lesions import KEYS
from inference.phantoms.phrases import details, draw_phrases
from inference.phantoms.training_batches import MEAN, STD, Batch, Batches, normalise
from inference.phantoms.vit_start import start_vit
from inference.phantoms.words import Directions, caption_phrases, catalogue_phrases, directions, teach_words
from inference.reading import UseMode
from inference.triage.catalogue import FindingsCatalogue, in_templates, load_catalogue
from inference.triage.contrastive import JUDGES
from inference.triage.open_clip_folder import WEIGHTS, ContrastiveModel, open_folder

CATALOGUE: Final = Path(__file__).resolve().parents[2] / "config" / "findings" / "chest_xray.yaml"
_RARITY: Final = torch.tensor([6.0, 8.0, 12.0, 4.0, 30.0, 8.0])  # of a patch that shows the finding, in the order of KEYS
_LARGEST_SCALE: Final = 100.0  # as CLIP clips it


@dataclass(frozen=True, slots=True)
class Recipe:
    """``shift``: the most pixels a film is moved by. Weights are relative to the findings' own loss.

    ``start``: a bundle of this script whose image tower goes on from where it is, against words learnt anew.
    """

    films: int = 16000
    others: int = 500  # pictures of each other kind
    checked: int = 800
    epochs: int = 6
    batch: int = 32
    rate: float = 3e-3
    decay: float = 0.05
    shift: int = 6
    patch_weight: float = 1.0
    kind_weight: float = 0.3
    detail_weight: float = 0.4
    word_steps: int = 2500
    phrases: int = 4000
    seed: int = 0
    start: Path | None = None


class Trainer:
    """Trains the image tower against a text tower that has learnt its words and is locked."""

    def __init__(self, model: ContrastiveModel, words: Directions, recipe: Recipe) -> None:
        self.net, self.words, self.recipe = model.net, words, recipe
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.patch_head = nn.Linear(self.net.visual.trunk.num_features, len(KEYS))  # leaves with the training
        self.optimisers = _optimisers([*self.net.visual.named_parameters(), *self.patch_head.named_parameters()], recipe)
        self.optimisers[0].add_param_group({"params": [self.net.logit_scale], "weight_decay": 0.0})

    def fit(self, films: Films, others: KindFilms, checked: Films, checked_others: KindFilms) -> None:
        if self.recipe.start is None:
            start_vit(self.net.visual.trunk, films.pixels[:500], MEAN, STD)
        batches = Batches(films, others, size=self.recipe.batch, shift=self.recipe.shift, rng=self.rng)
        steps, step, started = self.recipe.epochs * len(batches), 0, time.monotonic()
        for epoch in range(self.recipe.epochs):
            self.net.train()
            for batch in batches:
                for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
                    group["lr"] = self.recipe.rate * _schedule(step, steps)
                self._step(batch, patch_weight=self.recipe.patch_weight * (1 - step / steps))
                step += 1
            print(
                f"epoch {epoch + 1}: {time.monotonic() - started:.0f} s, {self._progress(checked, checked_others)}", flush=True
            )

    def calibrate(self, films: Films) -> None:
        """Set the logit scale so that the probabilities of unseen films are as honest as one number can make them."""
        margins = self.embed(films.pixels) @ self.words.findings.T
        targets = torch.from_numpy(films.labels).float()
        scales = torch.linspace(2.0, _LARGEST_SCALE, 200)
        losses = [functional.binary_cross_entropy_with_logits(margins * scale, targets) for scale in scales]
        best = scales[int(torch.stack(losses).argmin())]
        self.net.logit_scale.data.fill_(math.log(float(best)))

    def embed(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Unit embeddings of grey (n, size, size) or RGB (n, size, size, 3) pictures, (n, width)."""
        self.net.eval()
        with torch.no_grad():
            return torch.cat([self.net.encode_image(_to_images(part), normalize=True) for part in _split(pixels)])

    def _progress(self, checked: Films, others: KindFilms) -> str:
        films, rest = self.embed(checked.pixels), self.embed(others.pixels)
        aucs = area_under_curve((films @ self.words.findings.T).numpy(), checked.labels)
        told = (rest @ self.words.kinds.T).argmax(dim=1).numpy() == others.kinds
        frontal = (films @ self.words.kinds.T).argmax(dim=1) == 0
        sides = torch.tensor([details(caption)[0] for caption in checked.captions])
        right_side = ((films @ self.words.sides.T) * sides)[sides != 0] > 0
        shares = {"kinds": told.mean(), "frontal": frontal.float().mean(), "sides": right_side.float().mean()}
        figures = {**dict(zip(KEYS, aucs, strict=True)), **shares, "scale": self.net.logit_scale.detach().exp()}
        return ", ".join(f"{name} {float(value):.4f}" for name, value in figures.items())

    def _step(self, batch: Batch, patch_weight: float) -> None:
        net, trunk, films = self.net, self.net.visual.trunk, len(batch.labels)
        tokens = trunk.forward_features(batch.images)  # (n + m, prefix + patches, width)
        vectors = functional.normalize(net.visual.head(trunk.forward_head(tokens)), dim=-1)  # (n + m, width)
        scaled = vectors * net.logit_scale.exp().clamp(max=_LARGEST_SCALE)
        patches = self.patch_head(tokens[:films, trunk.num_prefix_tokens :])
        loss = functional.binary_cross_entropy_with_logits(scaled[:films] @ self.words.findings.T, batch.labels)
        loss = loss + patch_weight * functional.binary_cross_entropy_with_logits(patches, batch.patches, pos_weight=_RARITY)
        loss = loss + self.recipe.kind_weight * self._kind_loss(scaled, batch)
        loss = loss + self.recipe.detail_weight * self._detail_loss(scaled[:films], batch)
        self.net.zero_grad(set_to_none=True)
        self.patch_head.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        for optimiser in self.optimisers:
            optimiser.step()

    def _kind_loss(self, scaled: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Which kind each picture is; and that a hand shows no effusion."""
        films = len(batch.labels)
        losses = functional.cross_entropy(scaled @ self.words.kinds.T, batch.kinds, reduction="none")
        margins = scaled[films:][batch.empty] @ self.words.findings.T
        none = functional.binary_cross_entropy_with_logits(margins, torch.zeros_like(margins))
        return losses[films:].mean() + 0.3 * losses[:films].mean() + 0.1 * none

    def _detail_loss(self, scaled: torch.Tensor, batch: Batch) -> torch.Tensor:
        """On which side a finding lies, and which device it is, where there is one."""
        known = batch.sides != 0
        sided = functional.softplus(-(scaled @ self.words.sides.T) * batch.sides)[known].sum() / known.sum().clamp(min=1)
        with_device = batch.devices.sum(dim=1) > 0
        which = functional.cross_entropy(
            (scaled @ self.words.devices.T)[with_device], batch.devices[with_device].argmax(dim=1), reduction="sum"
        )
        return sided + which / with_device.sum().clamp(min=1)


def _optimisers(weights: list[tuple[str, nn.Parameter]], recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks (Jordan 2024: about half the steps), AdamW for the rest."""
    inner = [weight for name, weight in weights if ".blocks." in name and weight.ndim == 2]
    outer = [weight for name, weight in weights if not (".blocks." in name and weight.ndim == 2)]
    adam = torch.optim.AdamW(outer, recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.decay)
    return [adam, torch.optim.Muon(inner, recipe.rate, weight_decay=recipe.decay, adjust_lr_fn="match_rms_adamw")]


def _schedule(step: int, steps: int, warm: int = 60) -> float:
    return min(1.0, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _to_images(pixels: NDArray[np.uint8]) -> torch.Tensor:
    channels = torch.from_numpy(pixels).float() / 255
    return normalise(channels[:, None] if channels.ndim == 3 else channels.permute(0, 3, 1, 2))


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
    """Write weights in half precision, what it knows, and the manifest."""
    state = {name: value.detach().half().contiguous() for name, value in net.state_dict().items()}
    save_file(state, str(folder / WEIGHTS), metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes 0600
    (folder / JUDGES).write_text(json.dumps({"findings": list(KEYS), "kinds": list(KINDS)}) + "\n", "utf-8")
    card = BundleCard(
        name="WetRead phantom BiomedCLIP",
        kind="biomedclip",
        version="2",
        source="inference/phantoms/train_triage.py of this project; drawn pictures only",
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
    others = cached_kinds(cache / f"kinds-{recipe.others}.npz", seen[: recipe.others], IMAGE_SIZE, processes=processes)
    unseen = range(CHECKING_SEEDS, CHECKING_SEEDS + recipe.checked)
    checked = cached_films(cache / f"check-{recipe.checked}.npz", unseen, IMAGE_SIZE, processes=processes)
    few = unseen[: recipe.checked // len(OTHERS)]
    checked_others = cached_kinds(cache / f"check-kinds-{len(few)}.npz", few, IMAGE_SIZE, processes=processes)
    catalogue = load_catalogue(CATALOGUE)
    kinds = kind_texts(catalogue)
    model = _with_words(out, catalogue, kinds, films, recipe)
    trainer = Trainer(model, directions(model, catalogue, kinds), recipe)
    trainer.fit(films, others, checked, checked_others)
    trainer.calibrate(checked)
    return save(out, model.net)


def kind_texts(catalogue: FindingsCatalogue) -> dict[str, tuple[str, ...]]:
    """The catalogue's texts for each of ``KINDS``, in that order. Raises ValueError where it does not name them all."""
    model = catalogue.scope.kinds
    prompts = {kind.key: kind.prompts for kind in model.kinds} if model else {}
    if lacking := [kind for kind in KINDS if kind not in prompts]:
        raise ValueError(f"the catalogue {catalogue.name} has no prompts for the kinds {', '.join(lacking)}")
    return {kind: in_templates(model.templates if model else (), prompts[kind]) for kind in KINDS}


def _with_words(
    out: Path, catalogue: FindingsCatalogue, kinds: Mapping[str, Sequence[str]], films: Films, recipe: Recipe
) -> ContrastiveModel:
    """The model of ``out``, its text tower taught and locked."""
    lessons = [
        catalogue_phrases(catalogue, kinds),
        caption_phrases(films.captions, films.labels),
        draw_phrases(np.random.default_rng(recipe.seed), recipe.phrases),
    ]
    write_form(out, [text for lesson in lessons for text in lesson.texts])
    model = open_folder(out, torch.device("cpu"), weights=False)
    near = teach_words(model, lessons, steps=recipe.word_steps, rng=torch.Generator().manual_seed(recipe.seed))
    if recipe.start is not None:
        weights = load_file(str(recipe.start / WEIGHTS))
        model.net.load_state_dict({n: v.float() for n, v in weights.items() if not n.startswith("text.")}, strict=False)
    print("words, mean cosine:", " ".join(f"{value:.3f}" for value in near), flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the phantom BiomedCLIP on drawn films.")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--cache", type=Path, default=Path("phantom-films"), help="where drawn films are kept between runs")
    parser.add_argument("--films", type=int, default=Recipe().films)
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--rate", type=float, default=Recipe().rate)
    parser.add_argument("--start", type=Path, help="a bundle of this script to go on from")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    recipe = Recipe(films=given.films, epochs=given.epochs, rate=given.rate, start=given.start)
    bundle = train(given.out, given.cache, recipe, given.processes)
    print(f"{bundle.folder}: {bundle.card.name}, digest {bundle.digest[:12]}")


if __name__ == "__main__":
    main()
