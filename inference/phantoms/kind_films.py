"""Pictures of the kinds that no frontal film is, as arrays for training and measuring."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.phantoms.kinds import KINDS, OTHERS, draw_kind

_DRAWN: Final = 256  # as films.py


@dataclass(frozen=True, slots=True, eq=False)
class KindFilms:
    """``pixels``: uint8 (n, size, size, 3) RGB. ``kinds``: int64 (n,), places in ``KINDS``."""

    pixels: NDArray[np.uint8]
    kinds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pixels)


def render_kinds(seeds: Sequence[int], size: int, *, kinds: Sequence[str] = OTHERS, processes: int = 1) -> KindFilms:
    """Draw a picture of every kind for every seed and shrink it to ``size``."""
    work = [(kind, seed, size) for seed in seeds for kind in kinds]
    if processes == 1:
        rows = [_render(item) for item in work]
    else:
        with ProcessPoolExecutor(processes) as pool:
            rows = list(pool.map(_render, work, chunksize=64))
    return KindFilms(np.stack(rows), np.array([KINDS.index(kind) for kind, _, _ in work]))


def cached_kinds(path: Path, seeds: Sequence[int], size: int, *, processes: int = 1) -> KindFilms:
    """As ``render_kinds`` of ``OTHERS``, kept in the file ``path``."""
    if not path.is_file():
        films = render_kinds(seeds, size, processes=processes)
        np.savez(path, pixels=films.pixels, kinds=films.kinds)
    with np.load(path) as kept:
        return KindFilms(kept["pixels"], kept["kinds"])


def _render(item: tuple[str, int, int]) -> NDArray[np.uint8]:
    kind, seed, size = item
    picture = Image.fromarray(draw_kind(kind, seed, _DRAWN)).convert("RGB")
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
