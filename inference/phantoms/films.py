"""Rendered phantoms as arrays, for training and measuring. Training, checking and showing take seeds from separate ranges."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.phantoms.draw import draw_phantom
from inference.phantoms.lesions import KEYS

TRAINING_SEEDS: Final = 1_000_000  # training counts up from here; everything below is unseen by every phantom model
CHECKING_SEEDS: Final = 500_000  # thresholds and temperatures are set on these
BENCHMARK_SEEDS: Final = 900_000  # figures are quoted on these alone
_DRAWN: Final = 256  # films are drawn larger than a model sees them, as real ones are
_FINDINGS_SHARES: Final = (0.22, 0.38, 0.28, 0.12)  # of training films with 0, 1, 2, 3 findings


@dataclass(frozen=True, slots=True, eq=False)
class Films:
    """``pixels``: uint8 (n, size, size). ``labels``: bool (n, len(KEYS)).

    ``boxes``: float32 (n, len(KEYS), 4), rows and columns in fractions of the film, zeros where the finding is absent.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)


def render_films(seeds: Sequence[int], size: int, *, rich: bool = False, processes: int = 1) -> Films:
    """Draw the films of ``seeds`` and shrink them to ``size``. ``rich``: more findings to a film than by nature."""
    work = [(seed, size, rich) for seed in seeds]
    if processes == 1:
        rows = [_render(item) for item in work]
    else:
        with ProcessPoolExecutor(processes) as pool:
            rows = list(pool.map(_render, work, chunksize=64))
    pixels, labels, boxes, captions = zip(*rows, strict=True)
    return Films(np.stack(pixels), np.stack(labels), np.stack(boxes), tuple(captions))


def cached_films(path: Path, seeds: Sequence[int], size: int, *, rich: bool = False, processes: int = 1) -> Films:
    """As ``render_films``, kept in the file ``path``."""
    if not path.is_file():
        films = render_films(seeds, size, rich=rich, processes=processes)
        np.savez(path, pixels=films.pixels, labels=films.labels, boxes=films.boxes, captions=np.array(films.captions))
    with np.load(path) as kept:
        return Films(kept["pixels"], kept["labels"], kept["boxes"], tuple(str(text) for text in kept["captions"]))


def _render(item: tuple[int, int, bool]) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float32], str]:
    seed, size, rich = item
    film = draw_phantom(seed, _rich(seed) if rich else None, _DRAWN)
    small = Image.fromarray(film.pixels).resize((size, size), Image.Resampling.BICUBIC)
    labels = np.array([key in film.findings for key in KEYS])
    boxes = np.array([film.boxes.get(key, (0.0, 0.0, 0.0, 0.0)) for key in KEYS], dtype=np.float32)
    return np.asarray(small), labels, boxes, film.caption


def _rich(seed: int) -> frozenset[str]:
    rng = np.random.default_rng((seed, 20))
    count = int(rng.choice(len(_FINDINGS_SHARES), p=_FINDINGS_SHARES))
    return frozenset(str(key) for key in rng.choice(KEYS, size=count, replace=False))
