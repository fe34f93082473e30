"""A heat map over its film, as a person looks at it: colour, legend, and what it is burned into the picture."""

from __future__ import annotations

import re
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
_SPACE: Final = re.compile(r"\s+(?!%)")  # where a line may be broken: a number keeps its percent sign
_WIDTH_OF_TEXT: Final = 724  # pixels of a picture's width for which _TEXT is made
_TITLE: Final = 1.4  # size of the first line
_EDGES: Final = 2
_LEGEND: Final = 84  # pixels of width
_NARROWEST: Final = 420  # pixels of a picture's width, so that its words can be read
_LOWEST: Final = 200  # pixels of height beside the ramp


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """``picture``: uint8 RGB (rows, columns, 3). ``film``: where the film lies in it, (top, left, bottom, right)."""

    picture: Rgb
    film: tuple[int, int, int, int]


def draw_overlay(
    frame: Frame, heat: HeatMap, lines: Sequence[str], legend: Sequence[str], edges: Sequence[str] = ()
) -> Overlay:
    """The film with its heat map, under a banner of ``lines``, the first in larger letters.

    ``legend``: the words at the top and the foot of the ramp. ``edges``: the patient's directions at the film's right and lower
    edge, where they are known. A film too narrow or too low for words stands on black.
    """
    film, scale = _film(frame)
    coloured = _marked(colour(film, heat, scale), edges)
    rows, columns = coloured.shape[:2]
    width, height = max(columns + _LEGEND, _NARROWEST), max(rows, _LOWEST)
    banner = _banner(width, lines)
    top = banner.shape[0]
    picture = np.zeros((top + height, width, 3), np.uint8)
    picture[:top] = banner
    picture[top : top + rows, :columns] = coloured
    picture[top:, width - _LEGEND :] = _legend(height, legend)
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
    """The map on the film's pixels, float64 ``shape``, 0..1, bicubic between the grid's cells; 0 outside its box."""
    top, left, bottom, right = (round(scale * edge) for edge in heat.box)
    grid = Image.fromarray(np.asarray(heat.values, np.float32))
    patch = np.asarray(grid.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BICUBIC), float)
    whole = np.zeros(shape)
    rows, columns = slice(max(0, top), min(shape[0], bottom)), slice(max(0, left), min(shape[1], right))
    whole[rows, columns] = patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return np.clip(whole, 0, 1)


def _film(frame: Frame) -> tuple[Rgb, float]:
    rows, columns = frame.size
    low, high = LONG_SIDE
    scale = min(max(1.0, low / max(rows, columns)), high / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return np.asarray(Image.fromarray(frame.pixels).convert("RGB").resize(size, Image.Resampling.BICUBIC)), scale


def _ramp(warmth: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGB of values 0..1: (…, 3)."""
    steps = np.linspace(0, 1, len(_RAMP))
    return np.stack([np.interp(warmth, steps, channel) for channel in _RAMP.T], axis=-1)


def _marked(film: Rgb, edges: Sequence[str]) -> Rgb:
    """With the directions written at the middle of the right and of the lower edge."""
    if len(edges) != _EDGES:
        return film
    image = Image.fromarray(film)
    draw = ImageDraw.Draw(image)
    rows, columns = film.shape[:2]
    size = _letters(columns + _LEGEND)
    face, (right, foot) = font(size), edges
    places = (
        (columns - face.getlength(right) - 6, rows / 2 - size / 2),
        (columns / 2 - face.getlength(foot) / 2, rows - size - 8),
    )
    for place, letters in zip(places, edges, strict=True):
        draw.text(place, letters, _INK, face, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(image)


def _banner(width: int, lines: Sequence[str]) -> Rgb:
    """White words on dark red, each line broken where it is too long."""
    size = _letters(width)
    sizes = [round(_TITLE * size), *[size] * len(lines)]
    broken = [(part, face) for line, face in zip(lines, sizes, strict=False) for part in _break(line, width - 16, face)]
    image = Image.new("RGB", (width, 8 + sum(face + 6 for _, face in broken)), _BANNER)
    draw, y = ImageDraw.Draw(image), 4
    for line, face in broken:
        draw.text((8, y), line, _INK, font(face))
        y += face + 6
    return np.asarray(image)


def _letters(width: int) -> int:
    """Size of letters, which grow with the picture."""
    return max(_TEXT, round(_TEXT * width / _WIDTH_OF_TEXT))


def _break(line: str, width: int, size: int) -> list[str]:
    face, rows = font(size), [""]
    for word in _SPACE.split(line.strip()):
        for part in _pieces(word, width, size):
            longer = f"{rows[-1]} {part}".strip()
            if rows[-1] and face.getlength(longer) > width:
                rows.append(part)
            else:
                rows[-1] = longer
    return rows


def _pieces(word: str, width: int, size: int) -> list[str]:
    """A word too long for a line, in parts that are not."""
    pieces = [""]
    for character in word:
        if pieces[-1] and font(size).getlength(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


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
