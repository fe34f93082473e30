"""Draw a chest radiograph of nobody: enough like a PA film that the whole pipeline can be run and shown on it.

No patient, no archive and no generative model is behind these pictures; every one is drawn from its seed by geometry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from inference.phantoms.anatomy import Body, Field, blob, fields, ramp
from inference.phantoms.caption import write_caption
from inference.phantoms.ct import draw_ct_phantom
from inference.phantoms.lesions import KEYS, Lesion, consolidation, effusion, free_air, nodule, place

__all__ = ["Box", "Phantom", "draw_ct_phantom", "draw_phantom"]

Box = tuple[float, float, float, float]
_AIR: Final = 0.47  # attenuation a lung takes away
_NORMAL_SHARE: Final = 0.34


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A drawn film. ``pixels``: uint8 (size, size), 0 black to 255 white, bone white, lungs dark.

    ``boxes``: for each finding (row0, col0, row1, col1) in fractions of the size, 0..1.
    """

    pixels: NDArray[np.uint8]
    findings: frozenset[str]
    caption: str
    boxes: Mapping[str, Box]


def draw_phantom(seed: int, findings: frozenset[str] | None = None, size: int = 512) -> Phantom:
    """Draw the film of ``seed``, the same on every machine and, but for its grain, at every size.

    ``findings``: any of ``KEYS``; None draws them too (a third of films normal, the rest with one or two findings).
    Raises ValueError for an unknown finding or a size below 32.
    """
    if size < 32:
        raise ValueError(f"size is {size}; a film has at least 32 pixels a side")
    wanted = _choose(_stream(seed, 0)) if findings is None else findings
    if unknown := sorted(wanted - set(KEYS)):
        raise ValueError(f"unknown finding {unknown[0]!r}; allowed: {', '.join(KEYS)}")
    body = Body.draw(_stream(seed, 1), large_heart="cardiomegaly" in wanted)
    lesions = place(wanted, body, _stream(seed, 2))
    film, masks = _Film(body, size, seed).expose(lesions)
    boxes = {key: _box(mask) for key, mask in masks.items()}
    return Phantom(film, frozenset(wanted), write_caption(lesions, _stream(seed, 3)), MappingProxyType(boxes))


def _stream(seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, purpose))


def _choose(rng: np.random.Generator) -> frozenset[str]:
    if rng.random() < _NORMAL_SHARE:
        return frozenset()
    return frozenset(str(key) for key in rng.choice(KEYS, size=1 + int(rng.random() < 0.4), replace=False))


def _box(mask: Field) -> Box:
    rows, cols = np.flatnonzero((mask > 0.4).any(axis=1)), np.flatnonzero((mask > 0.4).any(axis=0))
    size = mask.shape[0]
    if not len(rows):
        return (0.0, 0.0, 1.0, 1.0)
    return (float(rows[0] / size), float(cols[0] / size), float((rows[-1] + 1) / size), float((cols[-1] + 1) / size))


class _Film:
    """The attenuation of one body, summed part by part, then exposed to grey levels."""

    def __init__(self, body: Body, size: int, seed: int) -> None:
        self.body = body
        self.size = size
        self.at = fields(body, size)
        self.grain = _stream(seed, 4)
        self.shapes = _stream(seed, 5)

    def expose(self, lesions: Sequence[Lesion]) -> tuple[NDArray[np.uint8], dict[str, Field]]:
        masks: dict[str, Field] = {}
        total = self._body(lesions, masks) + self._bones() + self._device(lesions, masks)
        level = (total + self.body.brightness - 0.45) * self.body.contrast + 0.45
        noise = self.grain.standard_normal((self.size, self.size), dtype=np.float32) * self.body.noise
        film = 255 * np.clip(level, 0, None) / (1 + 0.12 * np.clip(level, 0, None)) + noise
        return np.clip(film, 0, 255).astype(np.uint8), {key: masks[key] for key in KEYS if key in masks}

    def _body(self, lesions: Sequence[Lesion], masks: dict[str, Field]) -> Field:
        """Soft tissue, air and what replaces air."""
        at, body = self.at, self.body
        air = at.lung * (1 - at.heart)
        markings = self._vessels() * air
        shadow = np.zeros_like(air)
        for lesion in lesions:
            if lesion.key == "pleural_effusion":
                masks[lesion.key] = fluid = effusion(lesion, at, body)
                air, markings, shadow = air * (1 - fluid), markings * (1 - fluid), shadow + 0.03 * fluid
            elif lesion.key == "pneumothorax":
                masks[lesion.key], line = free_air(lesion, at)
                free = masks[lesion.key]
                markings = markings * (1 - free)
                shadow = shadow + 0.22 * line - 0.11 * free + 0.05 * at.lung * (1 - free) * (at.x * lesion.sign > 0)
            elif lesion.key == "consolidation":
                masks[lesion.key] = patch = consolidation(lesion, at, self._mottle(10))
                air = air * (1 - 0.72 * patch)
            elif lesion.key == "nodule":
                masks[lesion.key] = nodule(lesion, at)
                air = air * (1 - 0.55 * masks[lesion.key])
            elif lesion.key == "cardiomegaly":
                masks[lesion.key] = at.heart
        return self._tissue() - _AIR * air + markings + shadow.astype(np.float32)

    def _tissue(self) -> Field:
        """The body wall, mediastinum and abdomen; the room around the neck is black."""
        at, body = self.at, self.body
        shoulder = body.apex - 0.06 + 0.16 * np.clip((at.lateral - 0.35) / 0.6, 0, 1) - 0.7 * ramp(0.30 - at.lateral, 0.24)
        flank = body.chest + 0.16 + 0.12 * body.habitus + 0.6 * np.clip(-0.25 - at.y, 0, 1)
        skin = ramp(at.y - shoulder + 0.06, 0.10) * ramp(flank - at.lateral, 0.06)
        wall = body.tissue + 0.10 * body.habitus * np.clip(at.y, 0, 1) - 0.28 * np.clip((at.lateral - body.chest) / 0.35, 0, 1)
        middle = 0.14 * ramp(body.mediastinum * 1.2 - at.lateral, 0.12) * ramp(at.y - body.apex, 0.2) + 0.10 * at.heart
        hila = 0.08 * blob(at.lateral, at.y, (body.mediastinum + 0.07, -0.08), (0.11, 0.16), 1.0)
        knob = 0.07 * blob(at.x, at.y, (body.mediastinum + 0.02, -0.30), (0.10, 0.11), 0.4)
        breast = (0.02 + 0.05 * body.habitus) * blob(at.lateral, at.y, (0.45, 0.22), (0.34, 0.26), 0.5)
        trachea = -0.13 * ramp(0.045 - np.abs(at.x - 0.01), 0.03) * ramp(-0.28 - at.y, 0.08)
        belly = 0.06 * ramp(at.y - at.floor, 0.05)
        bubble = -0.22 * blob(at.x, at.y, (0.36, body.base[1] + 0.10), (0.15, 0.08), 0.4) * body.gastric_bubble
        total: Field = (skin * (wall + middle + hila + knob + breast + trachea + belly + bubble)).astype(np.float32)
        return total + np.float32(0.02)

    def _bones(self) -> Field:
        at, body = self.at, self.body
        cage = ramp(at.outer + 0.03 - at.lateral, 0.02) * ramp(at.y - body.apex + 0.05) * ramp(body.base[1] + 0.12 - at.y, 0.1)
        reach = at.lateral / np.float32(body.chest)
        back = (at.y - 0.22 * reach * (reach - 0.75) * 2) / body.rib_spacing + body.rib_phase
        front = (at.y + 0.55 * reach) / body.rib_spacing + body.rib_phase + 0.4
        ribs = self._band(back) * ramp(at.lateral - 0.06) + 0.55 * self._band(front) * ramp(at.lateral - 0.30, 0.1)
        spine = ramp(0.085 - at.lateral, 0.03) * (0.05 + 0.025 * np.cos(at.y * np.float32(2 * np.pi / 0.135)))
        bones: Field = np.asarray(body.rib_strength * ribs * cage + spine + self._clavicles(), dtype=np.float32)
        return bones

    @staticmethod
    def _band(phase: NDArray[np.floating[Any]]) -> Field:
        """Ribs of a comb: bright for two fifths of each period, brightest at the lower cortex."""
        part = phase - np.floor(phase)
        band: Field = (ramp(0.2 - np.abs(part - 0.5), 0.08) * (0.75 + part * 0.5)).astype(np.float32)
        return band

    def _clavicles(self) -> Field:
        lift = self.shapes.normal(0, 0.015)
        top = self.body.apex
        lines = [
            [(side * x, top + y + lift) for x, y in ((0.10, 0.20), (0.28, 0.15), (0.48, 0.12), (0.70, 0.02), (0.86, -0.03))]
            for side in (-1, 1)
        ]
        return np.float32(0.17) * self._strokes([(line, 0.065) for line in lines], blur=0.006)

    def _vessels(self) -> Field:
        """Bronchovascular markings: branches that leave each hilum and fork."""
        rng, strokes = self.shapes, []
        for side in (-1, 1):
            hilum = np.array((side * (self.body.mediastinum + 0.05), -0.08))
            for angle in np.linspace(-1.25, 1.35, 10) + rng.normal(0, 0.08, 10):
                strokes += _branch(rng, hilum, side, float(angle), 0.30, 0.028, 3)
        return np.float32(0.16) * self._strokes(strokes, blur=0.005)

    def _device(self, lesions: Sequence[Lesion], masks: dict[str, Field]) -> Field:
        for lesion in lesions:
            if lesion.key == "device":
                solid, strokes = _hardware(lesion, self.body)
                masks[lesion.key] = self._strokes(strokes, blur=0.001, solid=solid)
                return np.float32(0.60) * masks[lesion.key]
        return np.zeros_like(self.at.x)

    def _mottle(self, cells: int) -> Field:
        """Smooth noise, about -1..1, ``cells`` across the film."""
        coarse = Image.fromarray(self.shapes.uniform(-1, 1, (cells, cells)).astype(np.float32))
        return np.asarray(coarse.resize((self.size, self.size), Image.Resampling.BICUBIC), dtype=np.float32)

    def _strokes(
        self,
        strokes: Sequence[tuple[Sequence[tuple[float, float]], float]],
        blur: float,
        solid: Sequence[Sequence[tuple[float, float]]] = (),
    ) -> Field:
        """Polylines (points, width in half-widths) and filled polygons as a field 0..1."""
        image = Image.new("L", (self.size, self.size))
        pen = ImageDraw.Draw(image)
        for points, width in strokes:
            pen.line(
                self._pixels(points), fill=255, width=max(1, round(width * self.body.scale * self.size / 2)), joint="curve"
            )
        for points in solid:
            pen.polygon(self._pixels(points), fill=255)
        soft = image.filter(ImageFilter.GaussianBlur(blur * self.size))
        return np.asarray(soft, dtype=np.float32) / np.float32(255)

    def _pixels(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(col * self.size, row * self.size) for col, row in (self.body.to_film(*point) for point in points)]


Stroke = tuple[list[tuple[float, float]], float]


def _branch(
    rng: np.random.Generator, start: NDArray[np.float64], side: int, angle: float, length: float, width: float, forks: int
) -> list[Stroke]:
    end = start + length * rng.uniform(0.8, 1.1) * np.array((side * np.cos(angle), np.sin(angle)))
    here: list[Stroke] = [([(float(start[0]), float(start[1])), (float(end[0]), float(end[1]))], width)]
    if forks == 1:
        return here
    turns = rng.uniform(0.15, 0.45, 2) * (-1, 1)
    return here + [
        s for turn in turns for s in _branch(rng, end, side, angle + float(turn), length * 0.62, width * 0.6, forks - 1)
    ]


def _hardware(lesion: Lesion, body: Body) -> tuple[list[list[tuple[float, float]]], list[Stroke]]:
    """(filled polygons, strokes) of a pacemaker with its lead, a central line, or a tracheal tube."""
    side, top = lesion.sign, body.apex
    atrium = (body.heart_centre[0] - 0.10, body.heart_centre[1] - 0.05)
    if lesion.size == "pacemaker":
        x, y, r = side * 0.56, top + 0.36, 0.11 * lesion.extent
        box = [(x - r, y - r * 0.6), (x - r * 0.5, y - r), (x + r, y - r * 0.8), (x + r, y + r * 0.7), (x - r * 0.6, y + r)]
        tip = (body.heart_centre[0] + 0.12, body.heart_centre[1] + 0.16)
        return [box], [([(x, y - r), (side * 0.34, top + 0.16), (-0.06, top + 0.30), (-0.09, 0.0), atrium, tip], 0.024)]
    if lesion.size == "line":
        path = [(side * 0.62, top + 0.10), (side * 0.36, top + 0.17), (-0.03, top + 0.32), (-0.10, -0.15), (-0.11, 0.08)]
        return [], [(path, 0.026)]
    walls = [([(0.01 + offset, -1.1), (0.01 + offset, -0.40)], 0.016) for offset in (-0.028, 0.028)]
    return [], [*walls, ([(0.01, -1.1), (0.01, -0.40)], 0.012)]
