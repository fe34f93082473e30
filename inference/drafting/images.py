"""A frame as the model sees it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inference.bicubic import resized
from inference.drafting.config import Preprocess


def prepare(pixels: NDArray[np.uint8], settings: Preprocess) -> Tensor:
    """One image, normalised: float32 (3, size, size).

    ``pixels``: uint8 (rows, columns) grey or (rows, columns, 3) RGB, 0 black. Bicubic by Pillow on 8 bits, as the reference.
    """
    image = Image.fromarray(resized(pixels, settings.size, settings.size)).convert("RGB")
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)  # (S, S, 3) -> (3, S, S)
    mean, std = (torch.tensor(channel)[:, None, None] for channel in (settings.mean, settings.std))
    return (values - mean) / std


def is_uniform(pixels: NDArray[np.uint8]) -> bool:
    """Whether every pixel has the same colour: nothing can be read from such an image."""
    return bool((pixels == pixels[:1, :1]).all())
