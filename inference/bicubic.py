"""Bicubic resizing of 8-bit pictures as Pillow does it, bit for bit, in half of its time.

Pillow resizes across, then down, and rounds to 8 bits after each (since its version 13 in the other order where the height
loses more than twice the pixels of the width, which moves values by up to 2). A pixel is a sum of whole numbers, grey levels
times coefficients of 22 bits after the point, then rounded. Here these sums are products of narrow matrices in float32, whose
error has a bound; the few that lie within it of a rounding edge are added once more in whole numbers.

Pillow does it where nothing is gained: colour, enlarging, small pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ONE: Final = 1 << 22  # as a coefficient of Pillow's
_TOGETHER: Final = 16  # pixels of the result that one product makes: more would multiply more zeros
_SMALL: Final = 1 << 18  # multiplications of one product, which are not worth a thread of the library
_BAND: Final = 64  # rows resized at once, at most: they stay in the cache
_LEAST_SIDE: Final = 512  # of a picture that is worth a plan
_SCALE: Final = 2.5  # by how much a side must shrink
_SUPPORT: Final = 2.0  # of the filter, in pixels of the result
_SHARPNESS: Final = -0.5  # Keys' a


def resized(pixels: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """``pixels``: (rows, columns) grey or (rows, columns, 3) RGB, 0..255; returns the same kind in the wanted size.

    Equal to Pillow's ``resize`` with BICUBIC, first across, then down: its own order for pictures that are not tall.
    Thread-safe.
    """
    across, down = _plan_for(pixels, 1, columns), _plan_for(pixels, 0, rows)
    made = _across(pixels, across) if across else _by_pillow(pixels, len(pixels), columns)
    if down is None:
        return _by_pillow(made, rows, columns)
    return np.ascontiguousarray(_across(np.ascontiguousarray(made.T), down).T)


def _by_pillow(pixels: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BICUBIC))


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """``firsts``: the first pixel of each sum, (wanted,); ``whole``: its coefficients, int32 (wanted, taken).

    ``products``: the same as pieces of matrices, float32 (columns, at most 16), each with its first column. ``error``: the most
    by which a sum in float32 is wrong, in grey levels.
    """

    firsts: NDArray[np.intp]
    whole: NDArray[np.int32]
    products: tuple[tuple[int, NDArray[np.float32]], ...]
    error: float


def _across(pixels: NDArray[np.uint8], plan: _Plan) -> NDArray[np.uint8]:
    """Each row made as long as ``plan`` makes it."""
    sums = _sums(pixels, plan)
    made = _cut(sums - plan.error)
    doubtful = np.flatnonzero(made != _cut(np.add(sums, plan.error, out=sums)))
    if len(doubtful):
        made.reshape(-1)[doubtful] = _exact(pixels, *np.divmod(doubtful, made.shape[1]), plan)
    return made


def _sums(pixels: NDArray[np.uint8], plan: _Plan) -> NDArray[np.float32]:
    """(rows, wanted), in grey levels and half a level more, so that rounding is cutting off."""
    sums = np.empty((len(pixels), len(plan.firsts)), np.float32)
    step = max(1, min(_BAND, _SMALL // max(part.size for _, part in plan.products)))
    for start in range(0, len(pixels), step):
        band, at = pixels[start : start + step].astype(np.float32), 0
        for first, part in plan.products:
            taken, made = part.shape
            np.matmul(band[:, first : first + taken], part, out=sums[start : start + step, at : at + made])
            at += made
    sums += np.float32(0.5)
    return sums


def _cut(sums: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Whole grey levels. Changes ``sums``."""
    return np.clip(sums, 0, 255, out=sums).astype(np.uint8)


def _exact(pixels: NDArray[np.uint8], rows: NDArray[np.intp], columns: NDArray[np.intp], plan: _Plan) -> NDArray[np.uint8]:
    """Some sums as Pillow adds them: below 2**31 there as here."""
    taken = np.minimum(plan.firsts[columns, None] + np.arange(plan.whole.shape[1]), pixels.shape[1] - 1)
    total = np.einsum("ij,ij->i", pixels[rows[:, None], taken].astype(np.int32), plan.whole[columns])
    levels: NDArray[np.int32] = (total + _ONE // 2) // _ONE
    return np.clip(levels, 0, 255).astype(np.uint8)


def _plan_for(pixels: NDArray[np.uint8], axis: int, wanted: int) -> _Plan | None:
    """None where Pillow is as fast."""
    size = pixels.shape[axis]
    worth = pixels.ndim == 2 and min(pixels.shape) >= _LEAST_SIDE and size >= _SCALE * wanted
    return _plan(size, wanted) if worth else None


@lru_cache(maxsize=32)
def _plan(size: int, wanted: int) -> _Plan | None:
    """How ``size`` pixels become ``wanted`` ones, which are not more; None where float32 cannot tell, or Pillow disagrees."""
    firsts, whole = _coefficients(size, wanted)
    parts = (slice(at, at + _TOGETHER) for at in range(0, wanted, _TOGETHER))
    products = tuple(_product(firsts[part], whole[part], size) for part in parts)
    additions = whole.shape[1] + 3  # with those of half a level and of the error itself, which are rounded too
    error = additions * 2.0**-24 * 1.01 * (255 * float(np.abs(whole).sum(axis=1).max()) / _ONE + 1)
    plan = _Plan(firsts, whole, products, error)
    return plan if error < 0.25 and _agrees(plan, size, wanted) else None


def _product(firsts: NDArray[np.intp], whole: NDArray[np.int32], size: int) -> tuple[int, NDArray[np.float32]]:
    start, last = int(firsts[0]), int(firsts[-1]) + whole.shape[1]
    columns = np.zeros((last - start, len(whole)), np.float32)
    for made, first in enumerate(firsts - start):
        columns[first : first + whole.shape[1], made] = whole[made] / _ONE
    return start, columns[: size - start]


def _coefficients(size: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The first pixel of each sum, (wanted,), and its coefficients, (wanted, taken): Pillow's, in its order of operations."""
    scale = size / wanted
    support = _SUPPORT * scale
    centres = (np.arange(wanted) + 0.5) * scale
    firsts = np.maximum((centres - support + 0.5).astype(np.intp), 0)
    ends = np.minimum((centres + support + 0.5).astype(np.intp), size)
    places = firsts[:, None] + np.arange(int((ends - firsts).max()))
    weights = np.where(places < ends[:, None], _keys((places - centres[:, None] + 0.5) * (1.0 / scale)), 0.0)
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # added one after the other, as a sum of numpy is not
    return firsts, np.trunc(weights * _ONE + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)


def _keys(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys, Cubic convolution interpolation for digital image processing (1981)."""
    x, a = np.abs(distances), _SHARPNESS
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < _SUPPORT, far, 0.0))


def _agrees(plan: _Plan, size: int, wanted: int) -> bool:
    """Whether Pillow gives the same: one built with other arithmetic might round a coefficient the other way."""
    rows = np.random.default_rng(size).integers(0, 256, (4, size), dtype=np.uint8)
    rows[:2] = np.where(rows[:2] > 127, 255, 0)
    theirs = Image.fromarray(rows).resize((wanted, len(rows)), Image.Resampling.BICUBIC)
    return np.array_equal(_across(rows, plan), np.asarray(theirs))
