"""Preprocessing: bit for bit the model's own transform, over shapes, colours and ways to resize."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image

from inference.errors import BundleError
from inference.phantoms import draw_phantom
from inference.reading import Frame, FrameSource
from inference.triage.preparation import Preparation

_TRANSFORMS: dict[str, dict[str, Any]] = {
    "as BiomedCLIP": {"image_size": 224},
    "longest side, padded": {"image_size": 64, "resize_mode": "longest", "fill_color": 7},
    "squashed": {"image_size": 64, "resize_mode": "squash"},
    "not square": {"image_size": (48, 80)},
    "bilinear": {"image_size": 64, "interpolation": "bilinear"},
    "other mean and deviation": {"image_size": 64, "mean": (0.1, 0.5, 0.9), "std": (0.3, 0.2, 0.7)},
}


def frame(pixels: Any) -> Frame:
    return Frame(pixels, FrameSource("1.2", "1.2", "1.2"), "DX")


def prepared(preparation: Preparation, pixels: Any) -> torch.Tensor:
    return preparation.normalise(torch.from_numpy(np.array(preparation.pixels(frame(pixels))))[None])[0]


@pytest.mark.parametrize("name", _TRANSFORMS)
@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(32, 400),
    columns=st.integers(32, 400),
    colour=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    flat=st.booleans(),
)
def test_exact_is_the_models_own_transform(name: str, rows: int, columns: int, colour: bool, seed: int, flat: bool) -> None:
    transform = image_transform(is_train=False, **_TRANSFORMS[name])
    shape = (rows, columns, 3) if colour else (rows, columns)
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    pixels = np.full_like(noise, seed % 256) if flat else noise
    ours = prepared(Preparation(transform), pixels)
    assert torch.equal(ours, transform(Image.fromarray(pixels)))
    assert torch.equal(ours, transform(Image.fromarray(pixels).convert("RGB")))


@settings(max_examples=15, deadline=None)
@given(short=st.integers(512, 1500), more=st.floats(1, 2.5), tall=st.booleans(), colour=st.booleans())
def test_exact_is_the_models_own_transform_for_films(short: int, more: float, tall: bool, colour: bool) -> None:
    transform = image_transform(64, is_train=False)
    shape = (int(short * more), short) if tall else (short, int(short * more))
    pixels = np.random.default_rng(short).integers(0, 256, (*shape, 3) if colour else shape, dtype=np.uint8)
    assert torch.equal(prepared(Preparation(transform), pixels), transform(Image.fromarray(pixels)))


def test_every_grey_value_is_normalised_as_published() -> None:
    transform = image_transform(16, is_train=False)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert torch.equal(prepared(Preparation(transform), ramp), transform(Image.fromarray(ramp)))


def test_a_grey_film_stays_one_channel() -> None:
    preparation = Preparation(image_transform(64, is_train=False))
    assert preparation.pixels(frame(np.zeros((90, 70), np.uint8))).shape == (1, 64, 64)
    assert preparation.pixels(frame(np.zeros((90, 70, 3), np.uint8))).shape == (3, 64, 64)
    assert preparation.size == (64, 64)


def test_fast_is_near_exact_and_leaves_small_images_alone() -> None:
    transform = image_transform(64, is_train=False)
    exact, fast = Preparation(transform), Preparation(transform, "fast")
    film = draw_phantom(5, size=700).pixels
    difference = np.abs(exact.pixels(frame(film)).astype(int) - fast.pixels(frame(film)))
    assert 0 < difference.max() <= 20  # grey levels, at an edge
    assert difference.mean() < 0.5
    small = film[:300, :300]  # less than twice three times what the model sees
    np.testing.assert_array_equal(exact.pixels(frame(small)), fast.pixels(frame(small)))


def test_steps_that_are_not_known_are_refused() -> None:
    transform = image_transform(64, is_train=False)
    transform.transforms.reverse()
    with pytest.raises(BundleError, match="does not know"):
        Preparation(transform)
    with pytest.raises(BundleError, match="does not know"):
        Preparation(lambda picture: torch.zeros(3, 64, 64))  # noqa: ARG005
