"""Bicubic resizing: the pixels of Pillow, bit for bit, over sizes and values."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from inference import bicubic
from inference.bicubic import resized
from inference.phantoms import draw_phantom

VALUES = ("noise", "black and white", "flat", "ramp", "stripes", "edge")


def by_pillow(pixels: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Across, then down."""
    across = Image.fromarray(pixels).resize((columns, len(pixels)), Image.Resampling.BICUBIC)
    return np.asarray(across.resize((columns, rows), Image.Resampling.BICUBIC))


def picture(kind: str, rows: int, columns: int, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8)
    down, across = np.ogrid[:rows, :columns]
    made = {
        "noise": noise,
        "black and white": np.where(noise > 127, 255, 0),
        "flat": np.full_like(noise, seed % 256),
        "ramp": down * (1 + seed % 7) + across * (seed % 5),
        "stripes": (across // (1 + seed % 9) % 2 + down // (1 + seed % 4) % 2) * 127,
        "edge": (down + across > rows) * 255,
    }[kind]
    return np.broadcast_to(made, (rows, columns)).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(VALUES),
    rows=st.integers(512, 1400),
    columns=st.integers(512, 1400),
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    seed=st.integers(0, 2**32 - 1),
)
def test_large_pictures_are_pillows(kind: str, rows: int, columns: int, shape: tuple[int, int], seed: int) -> None:
    pixels = picture(kind, rows, columns, seed)
    np.testing.assert_array_equal(resized(pixels, *shape), by_pillow(pixels, *shape))


@settings(max_examples=40, deadline=None)
@given(more=st.integers(0, 6000), wanted=st.integers(1, 600), seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(VALUES))
def test_a_plan_is_pillows_at_any_scale(more: int, wanted: int, seed: int, kind: str) -> None:
    """Also past the sizes that plans are used for."""
    rows = picture(kind, 9, wanted + more, seed)
    plan = bicubic._plan(wanted + more, wanted)
    assert plan is not None
    np.testing.assert_array_equal(bicubic._across(rows, plan), by_pillow(rows, 9, wanted))


@pytest.mark.parametrize("shape", [(2500, 2048), (3000, 2500), (4280, 3520)])
def test_films_are_pillows(shape: tuple[int, int]) -> None:
    drawn = Image.fromarray(draw_phantom(3, size=512).pixels).resize(shape[::-1])
    grain = np.random.default_rng(1).normal(0, 3, shape)
    film = np.clip(np.asarray(drawn) + grain, 0, 255).astype(np.uint8)
    for rows, columns in ((224, 224), (268, 224), (384, 384)):
        np.testing.assert_array_equal(resized(film, rows, columns), by_pillow(film, rows, columns))


def test_every_doubtful_sum_is_settled_in_whole_numbers() -> None:
    """With a bound so wide that each sum is doubtful, whole numbers alone give the same picture."""
    rows = picture("noise", 20, 1500, 1)
    plan = bicubic._plan(1500, 100)
    assert plan is not None
    doubtful = np.divmod(np.arange(20 * 100), 100)
    np.testing.assert_array_equal(bicubic._exact(rows, *doubtful, plan).reshape(20, 100), bicubic._across(rows, plan))


def test_float_sums_keep_within_their_bound() -> None:
    rows = picture("black and white", 50, 2500, 2)
    plan = bicubic._plan(2500, 224)
    assert plan is not None
    matrix = np.zeros((224, 2500))
    for made, first in enumerate(plan.firsts):
        taken = min(plan.whole.shape[1], 2500 - first)
        matrix[made, first : first + taken] = plan.whole[made, :taken] / 2.0**22
    wrong = np.abs(bicubic._sums(rows, plan) - (rows @ matrix.T + 0.5)).max()
    assert 0 < wrong < plan.error < 0.01


def test_a_pillow_that_rounds_otherwise_is_left_to_itself() -> None:
    bicubic._plan.cache_clear()
    pixels = picture("noise", 900, 900, 3)
    try:
        with patch.object(bicubic, "_keys", lambda distances: np.maximum(0.0, 1 - np.abs(distances) / 2)):
            np.testing.assert_array_equal(resized(pixels, 90, 90), by_pillow(pixels, 90, 90))
    finally:
        bicubic._plan.cache_clear()


@pytest.mark.parametrize("shape", [(700, 700, 3), (300, 300), (600, 400)])
def test_what_gains_nothing_is_pillows_own(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    for rows, columns in ((100, 64), (math.prod(shape[:1]), 70), (800, 900)):
        np.testing.assert_array_equal(resized(pixels, rows, columns), by_pillow(pixels, rows, columns))
