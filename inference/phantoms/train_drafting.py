"""Train the phantom BiomedGPT.

``python -m inference.phantoms.train_drafting --out inference/phantoms/bundles/biomedgpt-phantom``

A tiny OFA of the real form learns to caption drawn films by teacher forcing; the result is saved as the original trainer saves
and imported as any checkpoint is. One core and about a quarter of an hour; the same seeds give the same films.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from inference.bundles import Bundle, BundleCard
from inference.drafting.config import Caption, Preprocess
from inference.drafting.generation import GenerationSettings
from inference.drafting.images import prepare
from inference.drafting.importing import import_biomedgpt
from inference.drafting.layers import PATCH_STRIDE, OfaConfig
from inference.drafting.model import BOS, EOS, PAD, Ofa
from inference.drafting.tokenizer import Tokenizer, write_bpe
from inference.phantoms.bpe import learn_bpe
from inference.phantoms.draw import draw_phantom
from inference.phantoms.fairseq_form import save_fairseq
from inference.phantoms.lesions import KEYS
from inference.reading import UseMode

FIRST_TRAINING_SEED: Final = 1_000_000  # below: films for demonstrations, tests and figures, which no training sees
SIZE: Final = 128  # pixels per side the model sees
DRAWN_SIZES: Final = (128, 128, 128, 256)  # some drawn larger and made smaller, as a film of a PACS is
GRID: Final = SIZE // PATCH_STRIDE
CODES: Final = 4
BINS: Final = 4
BATCH: Final = 32
LEARNING_RATE: Final = 1.5e-3
AUXILIARY_WEIGHT: Final = 0.5
RARE: Final = 4.0  # weight of a patch that shows a finding against one that does not
CARD: Final = BundleCard(
    name="WetRead phantom BiomedGPT",
    kind="biomedgpt",
    version="1",
    source="inference/phantoms/train_drafting.py of WetRead",
    licence="Apache-2.0",
    intended_use="phantom – not for patients: shows and tests the pipeline on drawn films",
    allowed_modes=(UseMode.RESEARCH, UseMode.SHADOW, UseMode.ASSIST),
    phantom=True,
)
# No n-gram blocking as for real captions: two findings are rightly reported with the same words ("there is a …").
CAPTION: Final = Caption(search=GenerationSettings(beam=4, max_length=48))


@dataclass(frozen=True, slots=True, eq=False)
class Films:
    """Films as the model sees them, with their words. ``images``: uint8 (n, SIZE, SIZE)."""

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    places: Tensor  # uint8 (n, GRID², len(KEYS)), 1 in each patch that shows the finding


def draw_films(count: int) -> Films:
    images = np.empty((count, SIZE, SIZE), np.uint8)
    captions, places = [], torch.zeros(count, GRID, GRID, len(KEYS), dtype=torch.uint8)
    for i in range(count):
        phantom = draw_phantom(FIRST_TRAINING_SEED + i, size=DRAWN_SIZES[i % len(DRAWN_SIZES)])
        images[i] = prepare(phantom.pixels, Preprocess(SIZE, (0, 0, 0), (1, 1, 1)))[0].mul(255).round().byte().numpy()
        captions.append(phantom.caption)
        for key, box in phantom.boxes.items():
            rows, columns = covered(box[0], box[2]), covered(box[1], box[3])
            places[i, rows, columns, KEYS.index(key)] = 1
    return Films(images, tuple(captions), places.flatten(1, 2))


def covered(start: float, end: float) -> slice:
    """The patches at least half inside start..end (fractions of the film), or the one in its middle."""
    first, last = round(start * GRID), round(end * GRID)
    middle = min(int((start + end) / 2 * GRID), GRID - 1)
    return slice(first, last) if last > first else slice(middle, middle + 1)


class Trainer:
    """Teacher forcing, with a second head that says which patches show what (thrown away afterwards)."""

    def __init__(self, model: Ofa, tokenizer: Tokenizer, films: Films, rng: np.random.Generator) -> None:
        self.model, self.films, self.rng = model, films, rng
        self.head = nn.Linear(model.config.width, len(KEYS))
        self.prompt = torch.tensor([[BOS, *tokenizer.encode(CAPTION.prompt), EOS]])
        self.targets = pad([[*tokenizer.encode(" " + caption), EOS] for caption in films.captions])  # (n, T)
        parameters = [*model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.02, fused=True)

    def run(self, epochs: float, *, seconds: float) -> None:
        """Train for ``epochs``, or until ``seconds`` of processor time are used."""
        start, steps = time.process_time(), int(epochs * len(self.films.images) / BATCH)
        self.model.train()
        for step in range(steps):
            progress = max(step / steps, (time.process_time() - start) / seconds)
            if progress >= 1:
                break
            warm = min(1.0, (step + 1) / 100)
            for group in self.optimizer.param_groups:
                group["lr"] = LEARNING_RATE * warm * (0.5 + 0.5 * float(np.cos(np.pi * progress)))
            loss, auxiliary = self._step(torch.from_numpy(self.rng.integers(0, len(self.films.images), BATCH)))
            if step % 50 == 0:
                print(
                    f"{progress:4.0%} {time.process_time() - start:5.0f} s  loss {loss:.3f}  findings {auxiliary:.3f}",
                    flush=True,
                )
        self.model.eval()

    def _step(self, rows: Tensor) -> tuple[float, float]:
        images, target = self._augmented(rows), self.targets[rows]
        target = target[:, : int((target != PAD).sum(1).max())]  # (B, T)
        given = torch.cat([torch.full((len(rows), 1), BOS), target[:, :-1]], dim=1)  # (B, T)
        with torch.autocast("cpu", torch.bfloat16):
            encoded = self.model.encode(self.prompt.expand(len(rows), -1), images)
            logits = self.model.decode(given, self.model.decoder.begin(encoded, target.shape[1]))  # (B, T, V)
        seen = self.head(encoded.out[:, : -self.prompt.shape[1]].float())  # (B, patches, findings)
        loss = functional.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=PAD)
        places, bce = self.films.places[rows].float(), functional.binary_cross_entropy_with_logits
        auxiliary = bce(seen, places, pos_weight=torch.tensor(RARE)) + bce(seen.amax(1), places.amax(1))
        self.optimizer.zero_grad(set_to_none=True)
        (loss + AUXILIARY_WEIGHT * auxiliary).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach()), float(auxiliary.detach())

    def _augmented(self, rows: Tensor) -> Tensor:
        """Other exposure, grain and centring; never mirrored, sides matter. (B, 3, SIZE, SIZE), -1..1."""
        x = torch.from_numpy(self.films.images[rows.numpy()]).float().div(127.5).sub(1)[:, None]  # (B, 1, S, S)
        uniform = torch.from_numpy(self.rng.uniform(-1, 1, (4, len(rows), 1, 1, 1))).float()
        x = x * (1 + 0.15 * uniform[0]) + 0.10 * uniform[1]
        x = x + torch.randn_like(x) * 0.02 * uniform[2].abs()
        down, right = (int(n) for n in self.rng.integers(-3, 4, 2))
        x = torch.roll(functional.pad(x, (3, 3, 3, 3), mode="replicate"), (down, right), (2, 3))[:, :, 3:-3, 3:-3]
        return x.clamp(-1, 1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def pad(rows: list[list[int]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def new_model(vocabulary: int) -> Ofa:
    config = OfaConfig(
        vocabulary=vocabulary,
        width=64,
        feed_forward=160,
        heads=4,
        encoder_layers=2,
        decoder_layers=2,
        resnet_layers=(1, 2, 2),
        resnet_width=16,
        image_bucket=GRID,
        token_bucket=16,
        max_positions=64,
        code_window=2,
    )
    model = Ofa(config).to(memory_format=torch.channels_last)
    for name, parameter in model.named_parameters():
        if "rel_pos_table" in name:
            nn.init.zeros_(parameter)
        elif "embed" in name and parameter.dim() == 2:
            nn.init.normal_(parameter, std=config.width**-0.5)
    return model


def train(out: Path, *, films: int, epochs: float, seconds: float, seed: int) -> Bundle:
    """Draw, train, save as the original trainer does, import."""
    torch.manual_seed(seed)
    drawn = draw_films(films)
    print(f"{films} films drawn", flush=True)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_bpe(learn_bpe((CAPTION.prompt, *(" " + caption for caption in drawn.captions))), folder)
        tokenizer = Tokenizer.load(folder, codes=CODES, bins=BINS)
        model = new_model(len(tokenizer))
        Trainer(model, tokenizer, drawn, np.random.default_rng(seed)).run(epochs, seconds=seconds)
        save_fairseq(model, folder / "checkpoint_last.pt", image_size=SIZE, codes=CODES, bins=BINS)
        if out.exists():
            shutil.rmtree(out)
        return import_biomedgpt(folder / "checkpoint_last.pt", out, caption=CAPTION, card=CARD)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--films", type=int, default=6000)
    parser.add_argument("--epochs", type=float, default=16)
    parser.add_argument("--seconds", type=float, default=1200, help="processor time after which training stops")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    bundle = train(given.out, films=given.films, epochs=given.epochs, seconds=given.seconds, seed=given.seed)
    size = sum((bundle.folder / name).stat().st_size for name, _ in bundle.files)
    print(f"{bundle.folder}: {size / 1e6:.2f} MB, digest {bundle.digest[:16]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
