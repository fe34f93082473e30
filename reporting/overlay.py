"""A heat map over its film, as a person looks at it: colour, legend, and what it is burned into the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inference.reading import Frame, HeatMap
from reporting.fonts import font

Rgb = NDArray[np.uint8]  # (rows, columns, 3)

LONG_SIDE: Final = (640, 1024)  # pixels: smaller films are enlarged so that the words can be read, larger ones reduced
FAINTEST: Final = 0.25  # below, the film shows uncoloured
STRONGEST: Final = 0.55  # opacity of the hottest place: the film must stay visible under it
# Dark purple to pale yellow, of rising lightness, so that it reads in grey and by colour-blind eyes (the ramp "inferno")
_RAMP: Final = np.array([(40, 11, 84), (120, 28, 109), (188, 55, 84), (237, 105, 37), (251, 180, 26), (252, 255, 164)], float)
_BANNER: Final = (96, 0, 0)
_INK: Final = (255, 255, 255)
_TEXT: Final = 17  # pixels
_LEGEND: Final = 84  # pixels of width


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """``picture``: uint8 RGB (rows, columns, 3). ``film``: where the film lies in it, (top, left, bottom, right)."""

    picture: Rgb
    film: tuple[int, int, int, int]


def draw_overlay(frame: Frame, heat: HeatMap, lines: Sequence[str], legend: Sequence[str]) -> Overlay:
    """The film with its heat map, under a banner of ``lines``; ``legend``: the words at the top and the foot of the ramp."""
    film, scale = _film(frame)
    coloured = colour(film, heat, scale)
    banner = _banner(coloured.shape[1] + _LEGEND, lines)
    picture = np.zeros((banner.shape[0] + coloured.shape[0], banner.shape[1], 3), np.uint8)
    top, (rows, columns) = banner.shape[0], coloured.shape[:2]
    picture[:top] = banner
    picture[top:, :columns] = coloured
    picture[top:, columns:] = _legend(rows, legend)
    return Overlay(picture, (top, 0, top + rows, columns))


def film_only(frame: Frame) -> Rgb:
    """The film in the size of an overlay."""
    return _film(frame)[0]


def overlay_only(frame: Frame, heat: HeatMap) -> Rgb:
    """The film with its heat map, without words."""
    film, scale = _film(frame)
    return colour(film, heat, scale)


def colour(film: Rgb, heat: HeatMap, scale: float) -> Rgb:
    """``film`` coloured where the map is warm. ``scale``: film pixels per pixel of the frame."""
    warmth = warmth_of(heat, film.shape[:2], scale)[..., None]
    opacity = STRONGEST * np.clip((warmth - FAINTEST) / (1 - FAINTEST), 0, 1)
    mixed: Rgb = np.rint((1 - opacity) * film + opacity * _ramp(warmth[..., 0])).astype(np.uint8)
    return mixed


def warmth_of(heat: HeatMap, shape: tuple[int, int], scale: float) -> NDArray[np.float64]:
    """The map on the film's pixels, float64 ``shape``, 0..1, bilinear between the grid's cells; 0 outside its box."""
    top, left, bottom, right = (round(scale * edge) for edge in heat.box)
    grid = Image.fromarray(np.asarray(heat.values, np.float32))
    patch = np.asarray(grid.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR), float)
    whole = np.zeros(shape)
    rows, columns = slice(max(0, top), min(shape[0], bottom)), slice(max(0, left), min(shape[1], right))
    whole[rows, columns] = patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return whole


def _film(frame: Frame) -> tuple[Rgb, float]:
    rows, columns = frame.pixels.shape[:2]
    low, high = LONG_SIDE
    scale = min(max(1.0, low / max(rows, columns)), high / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return np.asarray(Image.fromarray(frame.pixels).convert("RGB").resize(size, Image.Resampling.BICUBIC)), scale


def _ramp(warmth: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGB of values 0..1: (…, 3)."""
    steps = np.linspace(0, 1, len(_RAMP))
    return np.stack([np.interp(warmth, steps, channel) for channel in _RAMP.T], axis=-1)


def _banner(width: int, lines: Sequence[str]) -> Rgb:
    """White words on dark red, each line broken where it is too long."""
    broken = [part for line in lines for part in _break(line, width - 16)]
    image = Image.new("RGB", (width, 8 + len(broken) * (_TEXT + 6)), _BANNER)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(broken):
        draw.text((8, 4 + number * (_TEXT + 6)), line, _INK, font(_TEXT))
    return np.asarray(image)


def _break(line: str, width: int) -> list[str]:
    rows = [""]
    for word in line.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and font(_TEXT).getlength(longer) > width:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows


def _legend(rows: int, words: Sequence[str]) -> Rgb:
    """The ramp from hottest, at the top, to nothing, with a word at either end."""
    image = Image.new("RGB", (_LEGEND, rows))
    draw = ImageDraw.Draw(image)
    height = max(2, rows - 2 * (_TEXT + 12))
    ramp = _ramp(np.linspace(1, 0, height)[:, None].repeat(_LEGEND // 3, axis=1))
    image.paste(Image.fromarray(np.rint(ramp).astype(np.uint8)), (_LEGEND // 3, _TEXT + 12))
    for word, y in zip(words, (6, rows - _TEXT - 8), strict=True):
        draw.text(((_LEGEND - font(14).getlength(word)) / 2, y), word, _INK, font(14))
    return np.asarray(image)
