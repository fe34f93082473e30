"""Radiographs of bones: a hand, a limb about its joint, and a skull."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.phantoms.anatomy import Field
from inference.phantoms.sheet import Point, Sheet, Stroke, polar

_FINGERS = ((-0.52, 0.30, 0.62), (-0.20, 0.42, 0.95), (0.0, 0.46, 1.05), (0.19, 0.42, 0.98), (0.38, 0.37, 0.78))
# (angle in radians, length of the metacarpal, length of the finger); the first is the thumb


def draw_hand(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A hand from the front on an empty film: five rays of bones, a wrist, two forearm bones."""
    sheet = Sheet(rng, size, turn=0.25, scale=(0.75, 1.05))
    spread, wrist = rng.uniform(0.6, 1.4), (0.0, 0.38)
    bones: list[Stroke] = []
    flesh: list[Stroke] = [([wrist, (0.0, 1.4)], 0.42), ([(0.0, 0.42), (0.02, -0.02)], 0.58)]
    for number, (angle, palm, finger) in enumerate(_FINGERS):
        turn = angle * spread + rng.normal(0, 0.02)
        start = polar(wrist, angle * 1.3, 0.17)
        knuckle = polar(start, turn, palm)
        parts = (0.55, 0.45) if number == 0 else (0.46, 0.30, 0.24)
        bones += [*_ray(start, knuckle, 0.075), *_phalanges(knuckle, turn + rng.normal(0, 0.04), finger * 0.72, parts)]
        flesh.append(([start, polar(knuckle, turn, finger * 0.75)], 0.185))
    forearm: list[Stroke] = [([(-0.09, 0.55), (-0.11, 1.4)], 0.15), ([(0.10, 0.57), (0.11, 1.4)], 0.11)]
    carpals = _carpals(sheet, wrist)
    bone = np.maximum(sheet.strokes([*bones, *forearm], blur=0.004), carpals)
    hollow = sheet.strokes([(points, width * 0.4) for points, width in (*bones, *forearm)], blur=0.008)
    return sheet.expose(0.28 * sheet.strokes(flesh, blur=0.012) + 0.42 * bone - 0.12 * hollow + 0.03)


def _ray(start: Point, end: Point, width: float) -> list[Stroke]:
    """A long bone: a shaft with a thicker head at each end."""
    inside = [(start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part) for part in (0.0, 0.14, 0.86, 1.0)]
    return [((inside[0], inside[3]), width * 0.7), ((inside[0], inside[1]), width), ((inside[2], inside[3]), width)]


def _phalanges(knuckle: Point, turn: float, length: float, parts: tuple[float, ...]) -> list[Stroke]:
    bones, start = [], polar(knuckle, turn, 0.03)
    for number, part in enumerate(parts):
        end = polar(start, turn, length * part)
        bones += _ray(start, end, 0.07 - 0.008 * number)
        start = polar(end, turn, 0.025)
    return bones


def _carpals(sheet: Sheet, wrist: Point) -> Field:
    field = np.zeros_like(sheet.x)
    for row, count in ((-0.07, 4), (0.06, 3)):
        for place in np.linspace(-0.14, 0.14, count):
            centre = (wrist[0] + place, wrist[1] + row)
            field = np.maximum(field, sheet.ellipse(centre, (0.055, 0.06), edge=0.2))
    return field


def draw_skull(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A skull from the side or, two times in five, from the front."""
    sheet = Sheet(rng, size, turn=0.08)
    return _front(sheet, rng) if rng.random() < 0.4 else _side(sheet, rng)


def _vault(sheet: Sheet, centre: Point, radii: Point) -> Field:
    """The brain's shadow and the bright rim of the bone around it."""
    outer = sheet.ellipse(centre, radii, edge=0.04)
    inner = sheet.ellipse(centre, (radii[0] - 0.06, radii[1] - 0.06), edge=0.06)
    return 0.48 * outer + 0.30 * (outer - 0.9 * inner) + 0.03 * sheet.mottle(9) * inner


def _side(sheet: Sheet, rng: np.random.Generator) -> NDArray[np.uint8]:
    vault = _vault(sheet, (0.08, -0.24), (rng.uniform(0.70, 0.80), rng.uniform(0.54, 0.62)))
    face = 0.40 * sheet.strokes(
        [], solid=[[(-0.62, -0.15), (-0.70, 0.30), (-0.52, 0.62), (-0.05, 0.40), (0.0, 0.0)]], blur=0.015
    )
    jaw = sheet.strokes([([(0.02, 0.20), (-0.02, 0.50), (-0.52, 0.72)], 0.15)], blur=0.008)
    teeth = sheet.strokes([([(-0.62 + 0.07 * k, 0.42), (-0.60 + 0.07 * k, 0.60)], 0.05) for k in range(6)])
    holes = sheet.ellipse((-0.52, 0.02), (0.13, 0.12), edge=0.3) + sheet.ellipse((-0.42, 0.24), (0.15, 0.09), edge=0.4)
    base = sheet.strokes([([(-0.5, -0.06), (-0.15, 0.10), (0.15, 0.24), (0.5, 0.20)], 0.10)], blur=0.015)
    neck = sheet.strokes([([(0.28, 0.30), (0.36, 1.2)], 0.5)], blur=0.02)
    spine = sheet.strokes([([(0.20 + 0.01 * k, 0.40 + 0.14 * k), (0.38 + 0.01 * k, 0.40 + 0.14 * k)], 0.10) for k in range(5)])
    total = np.maximum(vault, 0.38 * neck) + face * 0.6 + 0.30 * jaw + 0.28 * teeth + 0.20 * base + 0.24 * spine
    return sheet.expose(total - 0.26 * np.clip(holes, 0, 1) + 0.02)


def _front(sheet: Sheet, rng: np.random.Generator) -> NDArray[np.uint8]:
    vault = _vault(sheet, (0.0, -0.28), (rng.uniform(0.54, 0.62), rng.uniform(0.58, 0.66)))
    face = 0.36 * sheet.ellipse((0.0, 0.30), (0.42, 0.55), edge=0.1)
    holes = np.zeros_like(face)
    for side in (-1, 1):
        holes = np.maximum(holes, sheet.ellipse((side * 0.24, -0.02), (0.15, 0.14), edge=0.2))
        holes = np.maximum(holes, 0.7 * sheet.ellipse((side * 0.22, 0.30), (0.13, 0.13), edge=0.3))
    holes = np.maximum(holes, sheet.ellipse((0.0, 0.22), (0.07, 0.16), edge=0.3))
    jaw = sheet.strokes([([(-0.42, 0.25), (-0.38, 0.60), (-0.14, 0.84), (0.14, 0.84), (0.38, 0.60), (0.42, 0.25)], 0.13)])
    teeth = sheet.strokes([([(px, 0.50), (px, 0.68)], 0.055) for px in np.linspace(-0.24, 0.24, 8)])
    neck = 0.36 * sheet.strokes([([(0.0, 0.6), (0.0, 1.3)], 0.62)], blur=0.02)
    total = np.maximum(np.maximum(vault, face), neck) + 0.26 * jaw + 0.24 * teeth
    return sheet.expose(total - 0.26 * holes + 0.02)


def draw_limb(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A knee, an elbow or an ankle: one thick bone above a joint, two below, bent a little."""
    sheet = Sheet(rng, size, turn=0.3, scale=(0.8, 1.3))
    bend, thick = rng.normal(0, 0.5), rng.uniform(0.16, 0.30)
    joint = (rng.normal(0, 0.06), rng.normal(0, 0.12))
    top, heel = polar(joint, rng.normal(0, 0.08), 1.6), polar(joint, np.pi + bend, 1.6)
    aside = (np.cos(bend) * thick * 0.75, np.sin(bend) * thick * 0.75)
    upper = [(top, joint), (polar(joint, 0.0, thick * 1.3), polar(joint, 0.0, thick * 0.35))]
    lower = [
        (polar(joint, np.pi + bend, thick * 0.35), heel),
        (polar(joint, np.pi + bend, thick * 0.3), polar(joint, np.pi + bend, thick)),
    ]
    second = (joint[0] + aside[0], joint[1] + aside[1])
    thin = (polar(second, np.pi + bend, thick * 0.6), polar(second, np.pi + bend, 1.6))
    shafts: list[Stroke] = [(upper[0], thick * 0.75), (lower[0], thick * 0.7), (thin, thick * 0.32)]
    heads: list[Stroke] = [(upper[1], thick * 1.35), (lower[1], thick * 1.3)]
    cap = sheet.ellipse((joint[0] - thick * 0.2, joint[1] - thick * 0.4), (thick * 0.4, thick * 0.45), edge=0.3)
    hollow = sheet.strokes([(points, width * 0.45) for points, width in shafts], blur=0.01)
    flesh = sheet.strokes([((top, joint, heel), thick * rng.uniform(2.1, 2.7))], blur=0.02)
    bone = sheet.strokes([*shafts, *heads], blur=0.006)
    return sheet.expose(0.34 * flesh + 0.36 * bone - 0.10 * hollow + 0.06 * cap + 0.03)
