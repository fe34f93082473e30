"""The body behind a chest-radiograph phantom: a few dozen numbers drawn from a seed, and the fields they make.

Coordinates are half-widths of the film: x from -1 (left of the picture, the patient's right) to 1, y from -1 (top) to 1,
after the patient's own shift, turn and scale. Fields are float32 (size, size) in 0..1 unless they say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
EDGE: Final = 0.03  # half-widths over which an outline goes from 0 to 1


@dataclass(frozen=True, slots=True)
class Body:
    """Anatomy, positioning and exposure of one person. Lengths in half-widths of the film, angles in radians."""

    turn: float
    scale: float
    shift: tuple[float, float]
    apex: float
    base: tuple[float, float]  # costophrenic angle: patient's right, patient's left
    dome: float
    chest: float  # half-width of the ribcage
    mediastinum: float
    heart_centre: tuple[float, float]
    heart_half_width: float
    heart_half_height: float
    rib_spacing: float
    rib_phase: float
    rib_strength: float
    tissue: float  # attenuation of the body wall
    habitus: float  # 0 thin to 1 heavy
    gastric_bubble: bool
    contrast: float
    brightness: float
    noise: float  # standard deviation, grey levels

    @classmethod
    def draw(cls, rng: np.random.Generator, *, large_heart: bool) -> Body:
        chest = rng.uniform(0.74, 0.85)
        base = rng.uniform(0.50, 0.66)
        ratio = (
            rng.uniform(0.60, 0.70) if large_heart else rng.uniform(0.38, 0.46)
        )  # cardiothoracic ratio, 0.5 at most in health
        return cls(
            turn=rng.normal(0, 0.025),
            scale=rng.uniform(0.92, 1.06),
            shift=(rng.normal(0, 0.025), rng.normal(0, 0.025)),
            apex=rng.uniform(-0.80, -0.68),
            base=(base - rng.uniform(0.02, 0.06), base),
            dome=rng.uniform(0.12, 0.20),
            chest=chest,
            mediastinum=rng.uniform(0.12, 0.16),
            heart_centre=(chest * ratio * rng.uniform(0.24, 0.32), base - rng.uniform(0.30, 0.34)),
            heart_half_width=chest * ratio,
            heart_half_height=rng.uniform(0.34, 0.38) if large_heart else rng.uniform(0.28, 0.33),
            rib_spacing=rng.uniform(0.15, 0.18),
            rib_phase=rng.uniform(0, 1),
            rib_strength=rng.uniform(0.06, 0.11),
            tissue=rng.uniform(0.60, 0.70),
            habitus=rng.uniform(0, 1),
            gastric_bubble=bool(rng.random() < 0.6),
            contrast=rng.uniform(0.92, 1.12),
            brightness=rng.normal(0, 0.02),
            noise=rng.uniform(1.5, 4.0),
        )

    def grid(self, size: int) -> tuple[Field, Field]:
        """Patient coordinates (x, y) of each pixel centre."""
        axis = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1) / np.float32(self.scale)
        u, v = axis[None, :] - self.shift[0], axis[:, None] - self.shift[1]
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        return (cos * u + sin * v).astype(np.float32), (cos * v - sin * u).astype(np.float32)

    def to_film(self, x: float, y: float) -> tuple[float, float]:
        """Fractions (column, row) of the film for a point of the patient."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        u, v = cos * x - sin * y + self.shift[0], sin * x + cos * y + self.shift[1]
        return float((u * self.scale + 1) / 2), float((v * self.scale + 1) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """What the lesions need to know of the body, per pixel. ``outer``: the chest wall's x; ``floor``: the diaphragm's y."""

    x: Field
    y: Field
    lateral: Field  # |x|
    outer: Field
    inner: Field
    floor: Field
    lung: Field
    heart: Field


def ramp(distance: NDArray[np.floating[Any]], width: float = EDGE) -> Field:
    """0 outside, 1 inside, linear over ``width`` about distance 0."""
    inside: Field = np.clip(distance * np.float32(1 / width) + np.float32(0.5), 0, 1).astype(np.float32, copy=False)
    return inside


def blob(x: Field, y: Field, centre: tuple[float, float], radii: tuple[float, float], edge: float = 0.2) -> Field:
    """A filled ellipse with a soft edge, ``edge`` in fractions of its radius."""
    dx, dy = (x - np.float32(centre[0])) / np.float32(radii[0]), (y - np.float32(centre[1])) / np.float32(radii[1])
    return ramp(1 - np.sqrt(dx * dx + dy * dy), edge)


def fields(body: Body, size: int) -> Fields:
    """The outlines of lungs and heart on a film of ``size`` pixels."""
    x, y = body.grid(size)
    lateral = np.abs(x)
    right = x < 0
    base = np.where(right, np.float32(body.base[0]), np.float32(body.base[1]))
    down = np.clip((y - body.apex) / (base - body.apex), 0, 1)
    bulge = np.sqrt(1 - (1 - down) ** 2)
    axis = np.float32(0.36 * body.chest / 0.78)  # the apex of a lung lies here
    outer = axis + (body.chest - axis) * bulge
    inner = axis - (axis - body.mediastinum) * np.sqrt(np.clip(down * 3, 0, 1))
    centre = (body.chest + body.mediastinum) / 2
    floor = base - body.dome * (1 - ((lateral - centre) / (body.chest - centre)) ** 2)
    lung = ramp(outer - lateral) * ramp(lateral - inner) * ramp(floor - y) * ramp(y - body.apex)
    heart = blob(
        x + 0.25 * (y - body.heart_centre[1]) * -1,
        y,
        body.heart_centre,
        (body.heart_half_width, body.heart_half_height),
        0.10,
    )
    f32 = np.float32
    return Fields(x, y, lateral, outer.astype(f32), inner.astype(f32), floor.astype(f32), lung.astype(f32), heart)
