"""Is a frontal chest film shown as a negative, or upside down? Measured on the picture, without a model, where it is plain.

Shown rightly, the mediastinum and spine are brighter than the lungs beside them, air outside the patient is dark, and the
abdomen below is brighter than neck and shoulders above. A film is called a negative only where the first two are both the
wrong way round: a white-out of the lungs turns the first alone, a white label or collimator edge the second alone. It is
called upside down only where the neck is seen below, too: a dark border alone turns the third.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE: Final = 64  # pixels: measured on a thumbnail
_FIRST: Final = 192  # pixels of the thumbnail on which borders are found
_FLAT: Final = 8  # grey values within which a row or column counts as border, for JPEG rings
_HEIGHT: Final = slice(18, 42)  # rows that hold lungs and mediastinum
_CENTRE: Final = slice(28, 36)  # columns of the mediastinum and spine
_LUNGS: Final = (slice(12, 22), slice(42, 52))
_CORNERS: Final = (slice(1, 7), slice(57, 63))  # columns beside the neck, in the rows _TOP
_TOP: Final = slice(1, 7)
_UPPER: Final = slice(2, 14)  # rows of neck and shoulders
_LOWER: Final = slice(50, 62)  # rows of the abdomen
_TRUNK: Final = slice(10, 54)  # columns
_APART: Final = 0.1  # of the film's own span from dark to bright
_FAR_APART: Final = 0.2
_NECK: Final = 0.3  # the least brightness of the neck

Levels = NDArray[np.float64]


def wrongly_shown(pixels: NDArray[np.uint8]) -> str:
    """In words, how a picture taken for a frontal chest film is plainly shown wrongly; empty wherever there is doubt.

    ``pixels``: uint8, (rows, columns) grey or (rows, columns, 3) RGB, as displayed.
    """
    level = _levels(pixels)
    if level is None:
        return ""
    if _negative(level):
        return "a negative: its bones are dark and its air is bright"
    if _upside_down(level):
        return "a chest film upside down or a negative: brighter at the top than at the bottom"
    return ""


def _negative(level: Levels) -> bool:
    centre = level[_HEIGHT, _CENTRE].mean()
    lungs = min(level[_HEIGHT, lung].mean() for lung in _LUNGS)
    corners = min(level[_TOP, corner].mean() for corner in _CORNERS)
    return bool(centre < lungs - _APART and corners > np.median(level) + _APART)


def _upside_down(level: Levels) -> bool:
    upper, lower = level[_UPPER, _TRUNK].mean(), level[_LOWER, _TRUNK].mean()
    neck = level[_LOWER.start :, _CENTRE].mean(axis=1).min()
    return bool(lower < upper - _FAR_APART and neck > _NECK)


def _levels(pixels: NDArray[np.uint8]) -> Levels | None:
    """The picture without its borders, (64, 64), 0 dark and 1 bright for most of it; None where it holds next to nothing."""
    step = max(
        1, min(pixels.shape[:2]) // (2 * _FIRST)
    )  # of a large film a part of the pixels is enough, and ten times quicker
    sample = np.ascontiguousarray(pixels[::step, ::step])
    grey = Image.fromarray(sample).convert("L").resize((_FIRST, _FIRST), Image.Resampling.BOX)
    box = _inside(np.asarray(grey, dtype=np.int16))
    if box is None:
        return None
    film = np.asarray(grey.crop(box).resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float64)
    low, high = np.percentile(film, (5, 95))
    return (film - low) / (high - low) if high - low > _FLAT else None


def _inside(film: NDArray[np.int16]) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of what lies within borders of one grey; None where less than half a side is left."""
    columns, rows = (np.flatnonzero(np.ptp(film, axis=axis) > _FLAT) for axis in (0, 1))
    if min(len(columns), len(rows)) == 0:
        return None
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return box if min(box[2] - box[0], box[3] - box[1]) >= _FIRST // 2 else None
