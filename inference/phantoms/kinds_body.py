"""Radiographs of trunks that are no frontal chest: a chest from the side, an abdomen, an animal lying on its side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.phantoms.anatomy import Field, ramp
from inference.phantoms.sheet import Point, Sheet, Stroke

_WING: Final = ((0.16, 0.42), (0.42, 0.18), (0.68, 0.22), (0.64, 0.55), (0.38, 0.78), (0.2, 0.7))
_CORNERS: Final = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def draw_lateral(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A chest from the side: spine behind, sternum before, one heart on the diaphragm, ribs as slanting arcs."""
    sheet = Sheet(rng, size)
    x, y = sheet.x, sheet.y
    depth, base = rng.uniform(0.52, 0.66), rng.uniform(0.50, 0.66)
    trunk = ramp(depth + 0.12 + 0.08 * y - np.abs(x), 0.06) * ramp(y + 0.95, 0.10)
    floor = base - 0.30 * (1 - ((x + 0.12) / depth) ** 2)
    narrow = depth - 0.22 * np.clip(-0.25 - y, 0, 1) * 2
    lung = ramp(narrow - np.abs(x + 0.02), 0.05) * ramp(floor - y, 0.04) * ramp(y + 0.82, 0.2)
    heart = sheet.ellipse((-0.24 * depth / 0.6, base - 0.42), (0.27, rng.uniform(0.24, 0.32)), edge=0.2, turn=0.5)
    arch = sheet.ellipse((0.05, -0.38), (0.20, 0.17), edge=0.2) * 0.06
    hilum = sheet.ellipse((0.04, -0.12), (0.10, 0.13), edge=0.9) * 0.12
    arms = sheet.strokes([([(-0.1, -1.2), (-0.25, -0.75)], 0.36), ([(0.2, -1.2), (0.3, -0.8)], 0.3)], blur=0.02) * 0.22
    soft = 0.62 * trunk - 0.44 * lung * (1 - 0.8 * heart) + arch + hilum + arms + 0.02
    windpipe = -0.12 * sheet.strokes([([(0.05, -0.95), (0.10, -0.25)], 0.08)], blur=0.01)
    bones = 0.24 * _vertebrae(sheet, [(depth - 0.16, y0) for y0 in np.linspace(-0.85, 0.95, 13)], 0.085, 0.052)
    bones = bones + 0.10 * _slanting_ribs(sheet, depth, rng) + 0.14 * _breastbone(sheet, depth)
    return sheet.expose(soft + windpipe + bones)


def draw_abdomen(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A belly from the front: lumbar spine, iliac wings, and gas in the bowel."""
    sheet = Sheet(rng, size, mirror=False)
    wide = rng.uniform(0.80, 0.98)
    body = ramp(wide - 0.10 * (sheet.y + 0.2) ** 2 - np.abs(sheet.x), 0.05)
    tissue = 0.52 * body + 0.05 * sheet.mottle(6) * body + 0.05 * sheet.ellipse((-0.45, -0.45), (0.42, 0.40), edge=0.5)
    gas = np.zeros_like(tissue)
    for _ in range(int(rng.integers(6, 16))):
        centre = (rng.uniform(-0.65, 0.65), rng.uniform(-0.55, 0.5))
        gas = np.maximum(
            gas, sheet.ellipse(centre, (rng.uniform(0.05, 0.16), rng.uniform(0.04, 0.11)), edge=0.4, turn=rng.uniform(0, 3))
        )
    spine = 0.22 * _vertebrae(sheet, [(0.0, y0) for y0 in np.linspace(-1.0, 0.36, 7)], 0.13, 0.085)
    wings = [[(side * px, py) for px, py in _WING] for side in (-1, 1)]
    sacrum: Sequence[Point] = [(-0.16, 0.42), (0.16, 0.42), (0.05, 0.85), (-0.05, 0.85)]
    pelvis = 0.20 * sheet.strokes([], solid=[*wings, sacrum], blur=0.012)
    ribs = [
        ([(side * 0.1, -0.95 + k * 0.14), (side * 0.55, -0.80 + k * 0.17), (side * 0.78, -0.62 + k * 0.17)], 0.05)
        for side in (-1, 1)
        for k in range(3)
    ]
    thighs = [([(side * 0.62, 0.75), (side * 0.72, 1.2)], 0.16) for side in (-1, 1)]
    bones = 0.09 * sheet.strokes(ribs) + 0.18 * sheet.strokes(thighs, blur=0.01)
    return sheet.expose(tissue - 0.30 * gas * body + spine + pelvis + bones + 0.02)


def draw_animal(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A four-legged animal on its side: spine along the top, deep chest, upright heart, forelegs, belly behind."""
    sheet = Sheet(rng, size, turn=0.08)
    x, y = sheet.x, sheet.y
    deep, back = rng.uniform(0.42, 0.60), rng.uniform(-0.52, -0.38)
    front = rng.uniform(-0.62, -0.50)
    belly_line = back + 0.16 + deep + 0.12 * np.cos((x + 0.1) * 2.2) - 0.18 * np.clip(x - 0.4, 0, 1)
    body = ramp(y - back + 0.16 + 0.05 * x, 0.05) * ramp(belly_line - y, 0.06) * ramp(x - front + 0.35, 0.3)
    reach = np.clip((x - front) / (0.55 - front), 0, 1)
    lung = ramp(x - front, 0.08) * ramp(0.50 - 0.42 * (y - back) / deep - x, 0.05) * ramp(y - back - 0.07, 0.05)
    lung = lung * ramp(back + 0.10 + deep * (0.55 + 0.45 * reach) - y, 0.06)
    heart = sheet.ellipse((front + 0.36, back + 0.55 * deep), (0.20, 0.26 * deep / 0.5), edge=0.2, turn=-0.25)
    neck = sheet.strokes([([(front, back + 0.1), (-1.1, back - 0.45)], 0.5)], blur=0.015)
    soft = 0.58 * np.maximum(body, 0.85 * neck) - 0.42 * lung * (1 - 0.85 * heart)
    legs: list[Stroke] = [
        ([(front + 0.05 + k, back + 0.35), (front - 0.02 + k, back + 0.75), (front - 0.18 + k, 0.98)], 0.09)
        for k in (0.0, 0.12)
    ]
    flesh = sheet.strokes([(points, width * 2.4) for points, width in legs], blur=0.01)
    column = [(px, back + 0.05 * px + 0.03 * np.sin(3 * px)) for px in np.linspace(-0.5, 1.1, 18)]
    climb = [(px, back + 0.05 + (px + 0.5) * 0.8) for px in np.linspace(-1.05, -0.56, 5)]
    bones = 0.24 * _vertebrae(sheet, [*column, *climb], 0.042, 0.05) + 0.26 * sheet.strokes(legs)
    ribs = [
        ([(px, back + 0.04), (px + 0.10, back + 0.3 * deep), (px + 0.03, back + 0.85 * deep)], 0.028)
        for px in np.linspace(front + 0.1, 0.45, 11)
    ]
    spines = [([(px, py), (px + 0.05, py - 0.12)], 0.02) for px, py in column]
    return sheet.expose(np.maximum(soft, 0.45 * flesh) + bones + 0.13 * sheet.strokes([*ribs, *spines]) + 0.02)


def _vertebrae(sheet: Sheet, centres: Sequence[Point], half_width: float, half_height: float) -> Field:
    boxes = [[(cx + sx * half_width, cy + sy * half_height) for sx, sy in _CORNERS] for cx, cy in centres]
    processes = [([(cx - half_width * 1.8, cy), (cx + half_width * 1.8, cy)], 0.03) for cx, cy in centres]
    column: Field = np.maximum(sheet.strokes([], solid=boxes, blur=0.006), np.float32(0.5) * sheet.strokes(processes))
    return column


def _slanting_ribs(sheet: Sheet, depth: float, rng: np.random.Generator) -> Field:
    step = rng.uniform(0.13, 0.17)
    ribs = []
    for k in range(9):
        top = -0.78 + k * step
        ribs.append(([(depth - 0.12, top), (0.2, top + 0.16), (-depth * 0.6, top + 0.42), (-depth, top + 0.40)], 0.035))
    return sheet.strokes(ribs)


def _breastbone(sheet: Sheet, depth: float) -> Field:
    return sheet.strokes([([(-depth * 0.72, -0.58), (-depth - 0.02, 0.0), (-depth - 0.02, 0.30)], 0.06)], blur=0.006)
