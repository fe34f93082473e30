"""A page to draw on, in units of its final pixels; drawn twice as large and reduced, so that every edge is smooth."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_OVER: Final = 2
_SPELLED: Final = {"–": "-", "—": "-", "≥": ">=", "≤": "<=", "×": "x", "·": "-", "…": "...", "’": "'", "“": '"', "”": '"'}
Colour = str  # "#rrggbb"
Box = tuple[float, float, float, float]  # left, top, right, bottom


class Canvas:
    """``width`` and ``height`` in pixels of the saved picture."""

    def __init__(self, width: int, height: int, background: Colour) -> None:
        self.width = width
        self.height = height
        self._image = Image.new("RGB", (width * _OVER, height * _OVER), background)
        self._pen = ImageDraw.Draw(self._image)

    def text(
        self, x: float, y: float, words: str, size: float, colour: Colour, *, bold: bool = False, anchor: str = "la"
    ) -> None:
        """One line; ``anchor`` as Pillow names it (la: left, ascender; ra: right; mm: centre)."""
        place = (x * _OVER, y * _OVER)
        stroke = size * _OVER / 45 if bold else 0  # the font has one weight
        self._pen.text(
            place, plain(words), font=_font(size), fill=colour, anchor=anchor, stroke_width=stroke, stroke_fill=colour
        )

    def paragraph(self, x: float, y: float, width: float, words: str, size: float, colour: Colour, *, lines: int = 99) -> float:
        """Wrapped text of at most ``lines`` lines; returns where the next line would begin."""
        wrapped = self._wrapped(words, width, size)
        if len(wrapped) > lines:
            wrapped = [*wrapped[: lines - 1], wrapped[lines - 1].rstrip(".") + " ..."]
        for line in wrapped:
            self.text(x, y, line, size, colour)
            y += size * 1.4
        return y

    def text_width(self, words: str, size: float) -> float:
        return self._pen.textlength(plain(words), font=_font(size)) / _OVER

    def panel(self, box: Box, colour: Colour, radius: float = 0, outline: Colour | None = None) -> None:
        left, top, right, bottom = (round(edge * _OVER) for edge in box)
        if right > left and bottom > top:
            self._pen.rounded_rectangle((left, top, right, bottom), radius * _OVER, fill=colour, outline=outline, width=_OVER)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, width: float = 1) -> None:
        points = tuple(edge * _OVER for edge in (x0, y0, x1, y1))
        self._pen.line(points, fill=colour, width=round(width * _OVER))

    def picture(self, box: Box, pixels: NDArray[np.uint8]) -> None:
        """uint8 (rows, columns) or (rows, columns, 3), fitted into ``box`` with its own proportions, centred."""
        left, top, right, bottom = (round(edge * _OVER) for edge in box)
        image = Image.fromarray(pixels).convert("RGB")
        scale = min((right - left) / image.width, (bottom - top) / image.height)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        self._image.paste(image, ((left + right - image.width) // 2, (top + bottom - image.height) // 2))

    def save(self, path: Path) -> None:
        self._image.resize((self.width, self.height), Image.Resampling.LANCZOS).save(path, optimize=True)

    def _wrapped(self, words: str, width: float, size: float) -> list[str]:
        lines: list[str] = []
        for word in (part for whole in words.split() for part in self._fitting(whole, width, size)):
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.text_width(longer, size) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def _fitting(self, word: str, width: float, size: float) -> Iterator[str]:
        """The word, cut where it is longer than a line."""
        while len(word) > 1 and self.text_width(word, size) > width:
            fits = max(1, int(len(word) * width / self.text_width(word, size)) - 1)
            yield word[:fits]
            word = word[fits:]
        yield word


def plain(words: str) -> str:
    """In the characters that the font has: Latin letters, with what it lacks spelled in ASCII."""
    spelled = "".join(_SPELLED.get(letter, letter) for letter in words)
    return "".join(letter if letter < "\u0100" else _base(letter) for letter in spelled)


def _base(letter: str) -> str:
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"


@cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _OVER)
