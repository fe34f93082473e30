"""Train the phantom BiomedGPT.

``python -m inference.phantoms.train_drafting --out inference/phantoms/bundles/biomedgpt-phantom``

A tiny OFA of the real form learns by teacher forcing, in the reference's own prompts: to caption drawn films, then also to
answer questions about them, to label them, to say what follows from a sentence, and to shorten findings to an impression. The
result is saved as the original trainer saves and imported as any checkpoint is. The same seeds give the same films and texts.

The shipped bundle was trained in three runs of one core: captions for a quarter of an hour, then, with ``--start`` on that, all
tasks for 11 minutes with the image front at rest, in bfloat16 and a third of the questions without a decoder prefix, and from
there for 25 minutes more with everything at work (``--epochs 26 --seconds 1500``).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.bundles import Bundle, BundleCard, write_manifest
from inference.drafting.config import CONFIG, Caption, Preprocess, Summarisation, read_config, write_config
from inference.drafting.generation import GenerationSettings
from inference.drafting.images import prepare
from inference.drafting.importing import import_biomedgpt
from inference.drafting.layers import PATCH_STRIDE, OfaConfig
from inference.drafting.model import Ofa
from inference.drafting.results import Task
from inference.drafting.tokenizer import Tokenizer, write_bpe
from inference.phantoms.bpe import learn_bpe
from inference.phantoms.ct import draw_ct_phantom
from inference.phantoms.drafting_trainer import Films, Trainer
from inference.phantoms.draw import draw_phantom
from inference.phantoms.fairseq_form import save_fairseq
from inference.phantoms.lesions import KEYS
from inference.phantoms.lessons import SLICE, caption_lesson, film_lesson, inference_lesson, summary_lesson
from inference.phantoms.ofa_start import begin_from
from inference.reading import UseMode

FIRST_TRAINING_SEED: Final = 1_000_000  # below: films for demonstrations, tests and figures, which no training sees
SIZE: Final = 128  # pixels per side the model sees
DRAWN_SIZES: Final = (128, 128, 128, 256)  # some drawn larger and made smaller, as a film of a PACS is
GRID: Final = SIZE // PATCH_STRIDE
CODES: Final = 4
BINS: Final = 4
SECOND_RATE: Final = 0.8  # of the learning rate, once captions are learned
SLICES: Final = 5  # of one CT phantom
SLICE_SHARE: Final = 0.03  # CT slices among the films
WINDOWS: Final = ((40.0, 400.0), (-600.0, 1500.0))  # centre and width in Hounsfield units: soft tissue, lung
CARD: Final = BundleCard(
    name="WetRead phantom BiomedGPT",
    kind="biomedgpt",
    version="3",
    source="inference/phantoms/train_drafting.py of WetRead",
    licence="Apache-2.0",
    intended_use="phantom – not for patients: shows and tests the pipeline on drawn films",
    allowed_modes=(UseMode.RESEARCH, UseMode.SHADOW, UseMode.ASSIST),
    phantom=True,
)
# No n-gram blocking as for real captions: two findings are rightly reported with the same words ("there is a …").
CAPTION: Final = Caption(search=GenerationSettings(beam=4, max_length=48))
SUMMARY: Final = GenerationSettings(beam=4, max_length=64)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is learned; an epoch is once through the films."""

    films: int = 7000
    caption_epochs: float = 16
    epochs: float = 14
    seconds: float = 1800  # of processor time
    words: int = 4000  # pairs and summaries from which the vocabulary is taken


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


def with_slices(films: Films) -> Films:
    """Some CT slices among the films, so that the kind of image is something to be seen and not a constant."""
    images: list[NDArray[np.uint8]] = []
    for number in range(round(len(films.images) * SLICE_SHARE / SLICES)):
        for i, plane in enumerate(draw_ct_phantom(FIRST_TRAINING_SEED + number, SLICES, SIZE)):
            centre, width = WINDOWS[(number + i) % len(WINDOWS)]
            images.append((np.clip((plane - centre) / width + 0.5, 0, 1) * 255).astype(np.uint8))
    if not images:
        return films
    places = torch.zeros(len(images), *films.places.shape[1:], dtype=torch.uint8)
    pixels = np.concatenate([films.images, np.stack(images)])
    return Films(pixels, (*films.captions, *[SLICE] * len(images)), torch.cat([films.places, places]))


def all_words(captions: Iterable[str], texts: int) -> list[str]:
    """Sources and answers of enough lessons that each word the model is taught occurs."""
    rng = np.random.default_rng(0)
    lessons = [caption_lesson(caption) for caption in captions]
    lessons += [film_lesson(lesson.answer, rng) for lesson in lessons for _ in range(2)]
    lessons += [make(rng) for make in (inference_lesson, summary_lesson) for _ in range(texts)]
    return [text for lesson in lessons for text in (lesson.source, " " + lesson.answer)]


def covered(start: float, end: float) -> slice:
    """The patches at least half inside start..end (fractions of the film), or the one in its middle."""
    first, last = round(start * GRID), round(end * GRID)
    middle = min(int((start + end) / 2 * GRID), GRID - 1)
    return slice(first, last) if last > first else slice(middle, middle + 1)


def new_model(vocabulary: int) -> Ofa:
    config = OfaConfig(
        vocabulary=vocabulary,
        width=64,
        feed_forward=160,
        heads=4,
        encoder_layers=3,
        decoder_layers=2,
        resnet_layers=(1, 2, 2),
        resnet_width=16,
        image_bucket=GRID,
        token_bucket=64,
        max_positions=160,
        code_window=2,
    )
    model = Ofa(config).to(memory_format=torch.channels_last)
    for name, parameter in model.named_parameters():
        if "rel_pos_table" in name:
            nn.init.zeros_(parameter)
        elif "embed" in name and parameter.dim() == 2:
            nn.init.normal_(parameter, std=config.width**-0.5)
    return model


def train(out: Path, start: Path | None = None, *, plan: Plan, seed: int) -> Bundle:
    """Draw, train, save as the original trainer does, import. ``start``: an earlier bundle to begin from."""
    torch.manual_seed(seed)
    drawn = with_slices(draw_films(plan.films))
    print(f"{len(drawn.images)} films drawn", flush=True)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_bpe(learn_bpe(all_words(drawn.captions, plan.words)), folder)
        tokenizer = Tokenizer.load(folder, codes=CODES, bins=BINS)
        print(f"{len(tokenizer)} tokens", flush=True)
        model = new_model(len(tokenizer))
        trainer = Trainer(model, tokenizer, drawn, np.random.default_rng(seed))
        if start:
            begin_from(start, model, tokenizer)
        else:
            trainer.run(plan.caption_epochs, seconds=plan.seconds / 2, tasks=False)
        trainer.run(plan.epochs, seconds=plan.seconds, rate=SECOND_RATE)
        save_fairseq(model, folder / "checkpoint_last.pt", image_size=SIZE, codes=CODES, bins=BINS)
        if out.exists():
            shutil.rmtree(out)
        return fit(import_biomedgpt(folder / "checkpoint_last.pt", out, caption=CAPTION, card=CARD))


def fit(bundle: Bundle) -> Bundle:
    """Say in the bundle's own configuration that it learnt every task, and how its summaries are searched."""
    config = read_config(bundle.path(CONFIG))
    write_config(replace(config, tasks=tuple(Task), summary=Summarisation(search=SUMMARY)), bundle.folder)
    return write_manifest(bundle.folder, CARD)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="an earlier bundle to begin from, in place of the captions-only part")
    parser.add_argument("--films", type=int, default=7000)
    parser.add_argument("--caption-epochs", type=float, default=16)
    parser.add_argument("--epochs", type=float, default=14)
    parser.add_argument("--seconds", type=float, default=1800, help="processor time after which training stops")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    plan = Plan(given.films, given.caption_epochs, given.epochs, given.seconds)
    bundle = train(given.out, given.start, plan=plan, seed=given.seed)
    size = sum((bundle.folder / name).stat().st_size for name, _ in bundle.files)
    print(f"{bundle.folder}: {size / 1e6:.2f} MB, digest {bundle.digest[:16]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
