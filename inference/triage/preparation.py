"""Frames to the pixels a tower sees: the model's own preprocessing, bit for bit, without the work it does three times.

open_clip resizes and crops the picture as it is, then makes it RGB, then float32, then normalises. Up to the crop the picture
stays uint8, and of a grey film one channel is enough: what follows is a function of each pixel alone, held as a table that was
made by the model's own steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transform import Compose, MaybeConvertMode, MaybeToTensor, Normalize, Resize
from PIL import Image

from inference.bicubic import resized
from inference.errors import BundleError
from inference.reading import Frame

Resizing = Literal["exact", "fast"]

_GAP: Final = 3  # "fast": areas are averaged until a side is this many times what the model sees, then resized as published
_TALL: Final = 1.5  # rows for a column
_POINTWISE: Final = (MaybeConvertMode, MaybeToTensor, Normalize)


class Preparation:
    """The preprocessing of one model. Thread-safe.

    ``normalised``: float32 (256, 3), what it makes of each grey value in each channel. ``size``: (rows, columns) it gives.
    """

    def __init__(self, transform: Callable[[Image.Image], torch.Tensor], resizing: Resizing = "exact") -> None:
        """Raises BundleError where the steps are not in the order open_clip has published them."""
        steps: list[Any] = list(transform.transforms) if isinstance(transform, Compose) else []
        if tuple(type(step) for step in steps[-3:]) != _POINTWISE:
            raise BundleError("this version of open_clip preprocesses images in steps that WetRead does not know")
        self._geometry = Compose(steps[:-3])
        self._resizing = resizing
        greys = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        self.normalised = Compose(steps[-3:])(greys)[:, 0].T.contiguous()  # (256, 3)
        rows, columns = transform(Image.new("L", (256, 256))).shape[1:]
        self.size = (int(rows), int(columns))

    def pixels(self, frame: Frame) -> NDArray[np.uint8]:
        """uint8 (1 or 3, rows, columns): the frame as the model sees it, before it is normalised."""
        array: NDArray[np.uint8] = np.asarray(self._geometry(self._resized(frame.pixels)))
        return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 1 or 3, rows, columns) to float32 (n, 3, rows, columns), as the model's own preprocessing gives it."""
        channels = range(3) if pixels.shape[1] == 3 else (0, 0, 0)
        table, index = self.normalised.to(pixels.device), pixels.to(torch.int32)
        return torch.stack([table[:, c][index[:, channel]] for c, channel in enumerate(channels)], dim=1)

    def _resized(self, pixels: NDArray[np.uint8]) -> Image.Image:
        """At the size that the published resizing makes it; as it is where that is not a bicubic one of the shorter side.

        Also as it is where it is tall, for Pillow then may resize it down before across.
        """
        step = self._geometry.transforms[0]
        if not isinstance(step, Resize) or not isinstance(step.size, int) or step.interpolation.name != "BICUBIC":
            return Image.fromarray(pixels)
        short = min(pixels.shape[:2])
        rows, columns = (int(step.size * side / short) for side in pixels.shape[:2])  # as torchvision: the shorter is exact
        if self._resizing == "fast" and short >= 2 * _GAP * step.size:
            return Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BICUBIC, reducing_gap=_GAP)
        tall = len(pixels) > _TALL * pixels.shape[1]
        return Image.fromarray(pixels if tall else resized(pixels, rows, columns))
