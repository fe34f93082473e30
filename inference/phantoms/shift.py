"""Phantoms of another hospital: other bodies, other exposure, other grain than the models were trained on.

Findings, seeds and truth are as in ``draw``; what changes is everything a site's own films change. Calibrations and heads are
tried on these: figures measured on ``render_films`` do not hold here, and that is the point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from inference.phantoms.anatomy import Body
from inference.phantoms.caption import write_caption
from inference.phantoms.draw import Phantom, _box, _choose, _Film, _stream
from inference.phantoms.films import Films
from inference.phantoms.lesions import KEYS, place

_DRAWN: Final = 256


@dataclass(frozen=True, slots=True)
class _Shift:
    """``body``: what is changed of a person and the exposure. ``finish``: what is done to the developed film."""

    body: Callable[[Body], Body]
    finish: Callable[[Image.Image], Image.Image]


def _bedside(body: Body) -> Body:
    """Supine and near the tube: a magnified heart, a shallow breath, a crooked film, scatter."""
    wide = body.heart_half_width * 1.10
    return replace(
        body,
        heart_half_width=wide,
        base=(body.base[0] - 0.07, body.base[1] - 0.07),
        heart_centre=(body.heart_centre[0] * 1.05, body.heart_centre[1] - 0.05),
        turn=body.turn * 2.5,
        habitus=0.5 + 0.5 * body.habitus,
        contrast=body.contrast * 0.86,
        brightness=body.brightness + 0.05,
        noise=body.noise * 1.6,
    )


def _low_dose(body: Body) -> Body:
    return replace(body, noise=body.noise * 3.5, contrast=body.contrast * 0.92, tissue=body.tissue + 0.03)


def _children(body: Body) -> Body:
    """Small and narrow, with faint ribs close together."""
    return replace(
        body,
        scale=body.scale * 0.84,
        chest=body.chest * 0.94,
        rib_spacing=body.rib_spacing * 0.88,
        rib_strength=body.rib_strength * 0.7,
        heart_half_width=body.heart_half_width * 1.02,
    )


def _blur(film: Image.Image) -> Image.Image:
    return film.filter(ImageFilter.GaussianBlur(film.width * 0.003))


def _processed(film: Image.Image) -> Image.Image:
    """Another maker's processing: a steeper curve, lifted lungs, sharpened edges."""
    level = np.arange(256) / 255
    curve = 255 * (0.5 + np.tanh((level**0.8 - 0.5) * 2.6) / (2 * np.tanh(1.3)))
    steep = film.point([int(value) for value in np.clip(curve, 0, 255)])
    return steep.filter(ImageFilter.UnsharpMask(film.width * 0.012, 90, 0))


def _same(body: Body) -> Body:
    return body


def _plain(film: Image.Image) -> Image.Image:
    return film


_SHIFTS: Final = MappingProxyType(
    {
        "portable": _Shift(_bedside, _plain),
        "low_dose": _Shift(_low_dose, _blur),
        "processed": _Shift(_same, _processed),
        "children": _Shift(_children, _plain),
    }
)
SHIFTS: Final = tuple(_SHIFTS)


def draw_shifted(seed: int, shift: str, findings: frozenset[str] | None = None, size: int = 512) -> Phantom:
    """As ``draw_phantom``, on another hospital's films. Raises ValueError for a shift not in ``SHIFTS``."""
    if shift not in _SHIFTS:
        raise ValueError(f"unknown shift {shift!r}; allowed: {', '.join(SHIFTS)}")
    wanted = _choose(_stream(seed, 0)) if findings is None else findings
    body = _SHIFTS[shift].body(Body.draw(_stream(seed, 1), large_heart="cardiomegaly" in wanted))
    lesions = place(wanted, body, _stream(seed, 2))
    film, masks = _Film(body, size, seed).expose(lesions)
    pixels = np.asarray(_SHIFTS[shift].finish(Image.fromarray(film)))
    boxes = MappingProxyType({key: _box(mask) for key, mask in masks.items()})
    return Phantom(pixels, frozenset(wanted), write_caption(lesions, _stream(seed, 3)), boxes)


def shifted_films(seeds: Sequence[int], size: int, shift: str) -> Films:
    """As ``render_films`` (findings by nature), on another hospital's films."""
    drawn = [draw_shifted(seed, shift, size=_DRAWN) for seed in seeds]
    labels = np.array([[key in film.findings for key in KEYS] for film in drawn])
    none = (0.0, 0.0, 0.0, 0.0)
    boxes = np.array([[film.boxes.get(key, none) for key in KEYS] for film in drawn], dtype=np.float32)
    return Films(np.stack([_shrink(film.pixels, size) for film in drawn]), labels, boxes, tuple(film.caption for film in drawn))


def _shrink(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
