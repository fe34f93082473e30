"""What is no radiograph: a photograph, a page of writing, an empty exposure, a slice of a CT."""

from __future__ import annotations

import string
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from inference.phantoms.ct import draw_ct_phantom
from inference.phantoms.sheet import smooth_noise

_WINDOWS: Final = ((-600.0, 1500.0), (40.0, 400.0), (50.0, 350.0), (400.0, 1800.0))  # centre, width in Hounsfield units
_CT_SIZE: Final = 192


def draw_ct(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """An axial slice of the chest in a lung, soft tissue or bone window, more or less of it in the picture."""
    volume = draw_ct_phantom(int(rng.integers(2**31)), slices=4, size=_CT_SIZE)
    centre, width = _WINDOWS[int(rng.integers(len(_WINDOWS)))]
    level = np.clip((volume[int(rng.integers(len(volume)))] - centre) / width + 0.5, 0, 1) * 255
    field = rng.uniform(0.80, 1.15) * _CT_SIZE / 2
    middle = _CT_SIZE / 2 + rng.normal(0, 4, 2)
    box = (middle[0] - field, middle[1] - field, middle[0] + field, middle[1] + field)
    image = Image.fromarray(level.astype(np.uint8)).rotate(float(rng.normal(0, 4)))
    square = image.transform((size, size), Image.Transform.EXTENT, box, Image.Resampling.BICUBIC)
    noise = rng.standard_normal((size, size), dtype=np.float32) * 3
    return _grey(np.asarray(square, dtype=np.float32) + noise)


def draw_photograph(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Coloured things before a textured ground, lit from one side: RGB, or now and then grey."""
    image = Image.fromarray(_ground(rng, size))
    for _ in range(int(rng.integers(3, 12))):
        _thing(rng, image)
    light = (0.75 + 0.25 * smooth_noise(rng, 3, size)[..., None]) * (1 + 0.08 * smooth_noise(rng, 60, size)[..., None])
    noise = rng.standard_normal((size, size, 3), dtype=np.float32) * rng.uniform(1, 5)
    pixels = np.clip(np.asarray(image, dtype=np.float32) * light + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        pixels = np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[..., None], 3, axis=2)
    return pixels


def _ground(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Two colours that pass into each other by a slope and by noise of several sizes."""
    first, second = rng.uniform(30, 240, 3), rng.uniform(30, 240, 3)
    slope = np.linspace(0, 1, size, dtype=np.float32)[:, None] * rng.uniform(-1, 1)
    mix = slope + sum(smooth_noise(rng, cells, size) * 1.2 / cells**0.5 for cells in (3, 7, 17, 41))
    part = (1 / (1 + np.exp(-3 * mix)))[..., None]
    ground: NDArray[np.uint8] = (first * part + second * (1 - part)).astype(np.uint8)
    return ground


def _thing(rng: np.random.Generator, image: Image.Image) -> None:
    """A shape of one colour with a shaded side, soft at its edge: a ball, a block or a blade."""
    size = image.width
    mask = Image.new("L", image.size)
    pen = ImageDraw.Draw(mask)
    centre, reach = rng.uniform(0, size, 2), rng.uniform(0.06, 0.32) * size
    if rng.random() < 0.4:
        pen.ellipse([*(centre - reach), *(centre + reach * rng.uniform(0.5, 1.0))], fill=255)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        corners = centre + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        pen.polygon([(float(px), float(py)) for px, py in corners], fill=255)
    shade = np.clip(1 + 0.5 * smooth_noise(rng, 4, size)[..., None], 0.2, 1.6) * rng.uniform(10, 250, 3)
    colour = Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8))
    image.paste(colour, mask=mask.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.001, 0.008))))


def draw_text(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A page of writing, black on white or white on black; one time in four an exposure with next to nothing on it."""
    if rng.random() < 0.25:
        return _empty(rng, size)
    dark = rng.random() < 0.5
    image = Image.new("L", (size, size), int(rng.uniform(0, 40)))
    pen = ImageDraw.Draw(image)
    height = size * rng.uniform(0.025, 0.07)
    font = ImageFont.load_default(size=height)
    step, left = height * rng.uniform(1.2, 2.0), rng.uniform(0.03, 0.15) * size
    for top in np.arange(rng.uniform(0.03, 0.2) * size, size * rng.uniform(0.5, 0.97), step):
        pen.text((left, float(top)), _line(rng), fill=int(rng.uniform(190, 256)), font=font)
    level = np.asarray(image, dtype=np.float32) + rng.standard_normal((size, size), dtype=np.float32) * 2
    return _grey(level if dark else 255 - level)


def _line(rng: np.random.Generator) -> str:
    letters = list(string.ascii_letters + string.digits)
    return " ".join("".join(rng.choice(letters, int(rng.integers(1, 10)))) for _ in range(int(rng.integers(1, 9))))


def _empty(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A plate exposed to nothing: a slow slope of grey, grain, and perhaps a marker letter."""
    grey = rng.uniform(5, 245) + rng.uniform(0, 15) * smooth_noise(rng, 3, size)
    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        font = ImageFont.load_default(size=size * 0.08)
        ImageDraw.Draw(image).text(
            (rng.uniform(0.05, 0.85) * size, 0.05 * size), str(rng.choice(["L", "R"])), fill=255, font=font
        )
    noise = rng.standard_normal((size, size), dtype=np.float32) * rng.uniform(1, 6)
    return _grey(np.asarray(image, dtype=np.float32) + noise)


def _grey(level: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = np.clip(level, 0, 255).astype(np.uint8)
    return pixels
