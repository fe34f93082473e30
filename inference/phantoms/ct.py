"""Draw an axial CT of nobody's chest, for showing what happens to a study that the catalogue does not cover."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.phantoms.anatomy import Field, blob

_AIR: Final = -1000.0  # Hounsfield units, as below
_FAT: Final = -90.0
_MUSCLE: Final = 45.0
_LUNG: Final = -850.0
_BLOOD: Final = 40.0
_BONE: Final = 550.0
_MARROW: Final = 180.0


def draw_ct_phantom(seed: int, slices: int = 5, size: int = 256) -> NDArray[np.int16]:
    """Draw ``slices`` axial levels, head to foot: int16 Hounsfield units, (slices, size, size), patient's right on the left."""
    rng = np.random.default_rng((seed, 10))
    width, depth = rng.uniform(0.80, 0.90), rng.uniform(0.54, 0.62)
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(axis[:, None], (size, size))
    levels = [_slice(x, y, width, depth, (k + 0.5) / slices) for k in range(slices)]
    noisy = np.stack(levels) + rng.normal(0, 12, (slices, size, size))
    return np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)


def _slice(x: Field, y: Field, width: float, depth: float, down: float) -> Field:
    """One level; ``down`` runs from 0 at the lung apex to 1 at the diaphragm."""
    level = np.full_like(x, _AIR)
    lung = 0.24 + 0.10 * np.sin(np.pi * min(down * 0.8 + 0.2, 1.0))
    heart = 0.10 + 0.22 * down
    parts = [
        ((0.0, 0.0), (width, depth), _FAT),
        ((0.0, 0.0), (width - 0.07, depth - 0.07), _MUSCLE),
        *[((side * 0.38, -0.01), (lung, depth - 0.17), _LUNG) for side in (-1, 1)],
        ((0.0, -0.12), (0.15, 0.28), _MUSCLE),
        ((0.06 + 0.08 * down, -0.14), (heart, heart * 0.8), _BLOOD),
        ((0.06, 0.20), (0.055, 0.055), _BLOOD),
        ((0.0, depth * 0.62), (0.11, 0.10), _BONE),
        ((0.0, depth * 0.62), (0.08, 0.07), _MARROW),
        ((0.0, -depth + 0.10), (0.09, 0.03), _BONE),
        *_ribs(width, depth, down),
    ]
    if down < 0.5:
        parts.append(((0.0, 0.02), (0.045, 0.045), _AIR))
    for centre, radii, value in parts:
        mask = blob(x, y, centre, radii, 0.05)
        level = level * (1 - mask) + value * mask
    return level


def _ribs(width: float, depth: float, down: float) -> list[tuple[tuple[float, float], tuple[float, float], float]]:
    angles = np.linspace(0.12, 0.88, 7) * np.pi + 0.15 * np.sin(down * 9)
    ring = [(np.sin(a) * (width - 0.11), np.cos(a) * (depth - 0.11)) for a in angles]
    return [((float(side * rx), float(ry)), (0.045, 0.028), _BONE) for rx, ry in ring for side in (-1, 1)]
