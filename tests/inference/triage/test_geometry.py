"""Which part of a frame a model sees. Oracle: a bright mark on the frame, looked for in what the transform gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, RandomHorizontalFlip

from inference.errors import BundleError
from inference.triage.geometry import seen_box

SIZE = 160


def transform(resize_mode: str = "shortest") -> Compose:
    made = image_transform_v2(PreprocessCfg(size=SIZE, resize_mode=resize_mode), is_train=False)
    assert isinstance(made, Compose)
    return made


FRAMES = {
    "square": (512, 512),
    "tall": (700, 400),
    "wide": (360, 900),
    "odd tall": (1023, 517),
    "odd wide": (301, 1000),
    "smaller than the model": (90, 61),
    "very wide": (200, 2000),
}


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize(("rows", "columns"), FRAMES.values(), ids=FRAMES)
def test_a_mark_is_where_the_box_says(rows: int, columns: int, resize_mode: str) -> None:
    made = transform(resize_mode)
    top, left, bottom, right = seen_box(made, rows, columns)
    for down, across in ((0.2, 0.3), (0.85, 0.6), (0.5, 0.92)):  # of the part that is seen
        row, column = top + down * (bottom - top), left + across * (right - left)
        picture = np.zeros((rows, columns), np.float64)
        reach = max(2.0, min(rows, columns) / 40)
        at = (np.arange(rows)[:, None] + 0.5 - row) ** 2 + (np.arange(columns)[None] + 0.5 - column) ** 2
        picture = (255 * np.exp(-at / (2 * reach**2))).astype(np.uint8)
        seen = made(Image.fromarray(picture))[0].numpy()
        seen = np.clip(seen - np.median(seen), 0, None)
        centre = (np.arange(SIZE) + 0.5) / SIZE
        found = float((seen.sum(1) * centre).sum() / seen.sum()), float((seen.sum(0) * centre).sum() / seen.sum())
        assert found == pytest.approx((down, across), abs=0.4 / SIZE + 0.002)  # less than half a pixel of the model


def test_boxes_by_hand() -> None:
    assert seen_box(transform(), 320, 320) == (0, 0, 320, 320)
    assert seen_box(transform(), 640, 320) == (160, 0, 480, 320)  # 320 × 160 after the resize, 80 cut above
    assert seen_box(transform(), 320, 640) == (0, 160, 320, 480)
    assert seen_box(transform("squash"), 320, 640) == (0, 0, 320, 640)
    assert seen_box(Compose([CenterCrop(200)]), 100, 300) == (-50, 50, 150, 250)  # padded above and below


@given(st.integers(32, 5000), st.integers(32, 5000))
@settings(max_examples=150, deadline=None)
def test_the_box_lies_within_any_frame_and_in_its_middle(rows: int, columns: int) -> None:
    top, left, bottom, right = seen_box(transform(), rows, columns)
    pixel = min(rows, columns) / SIZE
    assert -1e-6 <= top < bottom <= rows + 1e-6
    assert -1e-6 <= left < right <= columns + 1e-6
    assert abs((top + bottom) - rows) <= 2 * pixel
    assert abs((left + right) - columns) <= 2 * pixel


def test_a_transform_that_cannot_be_followed_is_refused() -> None:
    with pytest.raises(BundleError, match="RandomHorizontalFlip"):
        seen_box(Compose([RandomHorizontalFlip(), *transform().transforms]), 100, 100)
    with pytest.raises(BundleError, match="ResizeKeepRatio"):
        seen_box(transform("longest"), 100, 100)
