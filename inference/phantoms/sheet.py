"""A sheet of film to draw any kind of radiograph on: shapes in their own coordinates, summed as attenuation, then exposed.

Coordinates are half-widths of the film, x and y from -1 to 1, after the object's own shift, turn and scale, as in ``anatomy``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from inference.phantoms.anatomy import Field, ramp

Point = tuple[float, float]
Stroke = tuple[Sequence[Point], float]  # a polyline and its width in half-widths
_HARDNESS: Final = 0.12  # how strongly high attenuation is compressed, as in ``draw``


class Sheet:
    """One object lying on a film of ``size`` pixels, turned, moved and enlarged a little, and perhaps mirrored."""

    def __init__(
        self, rng: np.random.Generator, size: int, *, turn: float = 0.05, scale: Point = (0.9, 1.1), mirror: bool = True
    ) -> None:
        self.rng, self.size = rng, size
        self._turn = rng.normal(0, turn)
        self._scale = rng.uniform(*scale)
        self._shift = rng.normal(0, 0.04, 2)
        self._side = -1.0 if mirror and rng.random() < 0.5 else 1.0
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        u, v = (axis[None, :] - self._shift[0]) / self._scale, (axis[:, None] - self._shift[1]) / self._scale
        cos, sin = np.cos(self._turn), np.sin(self._turn)
        self.x: Field = (self._side * (cos * u + sin * v)).astype(np.float32)
        self.y: Field = (cos * v - sin * u).astype(np.float32)

    def ellipse(self, centre: Point, radii: Point, *, edge: float = 0.1, turn: float = 0.0) -> Field:
        """A filled ellipse, ``edge`` in fractions of its radius, ``turn`` in radians."""
        dx, dy = self.x - np.float32(centre[0]), self.y - np.float32(centre[1])
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        along, across = (cos * dx + sin * dy) / np.float32(radii[0]), (cos * dy - sin * dx) / np.float32(radii[1])
        return ramp(1 - np.sqrt(along * along + across * across), edge)

    def strokes(self, strokes: Sequence[Stroke], *, blur: float = 0.004, solid: Sequence[Sequence[Point]] = ()) -> Field:
        """Polylines and filled polygons as a field 0..1; ``blur`` in film widths."""
        image = Image.new("L", (self.size, self.size))
        pen = ImageDraw.Draw(image)
        for points, width in strokes:
            pen.line(self._pixels(points), fill=255, width=max(1, round(width * self._scale * self.size / 2)), joint="curve")
        for points in solid:
            pen.polygon(self._pixels(points), fill=255)
        return np.asarray(image.filter(ImageFilter.GaussianBlur(blur * self.size)), dtype=np.float32) / np.float32(255)

    def mottle(self, cells: int) -> Field:
        """Smooth noise, about -1..1, ``cells`` across the film."""
        return smooth_noise(self.rng, cells, self.size)

    def expose(self, attenuation: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Grey levels, bone white, with this film's own contrast, brightness and grain."""
        contrast, lift, grain = self.rng.uniform(0.85, 1.15), self.rng.normal(0, 0.03), self.rng.uniform(1.5, 4.0)
        level = np.clip((attenuation + lift - 0.45) * contrast + 0.45, 0, None)
        noise = self.rng.standard_normal((self.size, self.size), dtype=np.float32) * grain
        film: NDArray[np.uint8] = np.clip(255 * level / (1 + _HARDNESS * level) + noise, 0, 255).astype(np.uint8)
        return film

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        cos, sin = np.cos(self._turn), np.sin(self._turn)
        half = self.size / 2
        turned = ((cos * self._side * x - sin * y, sin * self._side * x + cos * y) for x, y in points)
        return [
            (float((u * self._scale + self._shift[0] + 1) * half), float((v * self._scale + self._shift[1] + 1) * half))
            for u, v in turned
        ]


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Field:
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)


def polar(start: Point, angle: float, length: float) -> Point:
    """The point ``length`` away from ``start``; an angle of 0 points up, positive to the right."""
    return float(start[0] + length * np.sin(angle)), float(start[1] - length * np.cos(angle))
