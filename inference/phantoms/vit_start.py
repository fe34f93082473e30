"""Where a tiny vision transformer starts from, so that minutes of training are enough.

From timm's random start it takes hundreds of epochs. Three things are known to replace most of them: patches seen through their
own whitened principal components, positions as waves, and attention that begins near "look at your like, and change it"
(Trockman and Kolter 2023, Mimetic initialization of self-attention layers).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_DAMPING: Final = 3e-3  # of the largest variance: fine detail is lifted, grain is not
_LAYER_SCALE: Final = 0.5


def start_vit(trunk: Any, pixels: NDArray[np.uint8], mean: torch.Tensor, std: torch.Tensor) -> None:
    """Set the first weights of a timm vision transformer. ``pixels``: uint8 (n, size, size) films like those it will see."""
    with torch.no_grad():
        _start_patches(trunk.patch_embed.proj, pixels, mean, std)
        _start_positions(trunk.pos_embed, trunk.patch_embed.grid_size)
        for block in trunk.blocks:
            _start_attention(block.attn)
            block.ls1.gamma.fill_(_LAYER_SCALE)
            block.ls2.gamma.fill_(_LAYER_SCALE)


def _start_patches(proj: nn.Conv2d, pixels: NDArray[np.uint8], mean: torch.Tensor, std: torch.Tensor) -> None:
    """Whitened principal components of the patches of grey films, split evenly over the three equal channels."""
    size, width = proj.kernel_size[0], proj.out_channels
    side = pixels.shape[1] // size
    cut = pixels[:, : side * size, : side * size].astype(np.float64) / 255
    patches = cut.reshape(-1, side, size, side, size).transpose(0, 1, 3, 2, 4).reshape(-1, size * size)
    centre = patches.mean(axis=0)
    variance, directions = np.linalg.eigh(np.cov((patches - centre).T))
    variance, directions = variance[::-1][:width], directions[:, ::-1][:, :width]
    rows = (directions / np.sqrt(variance + _DAMPING * variance[0] / width)).T  # (width, size * size), on pixels 0..1
    weight = torch.from_numpy(rows.copy()).float().view(width, 1, size, size)
    proj.weight.copy_(weight * std.view(1, 3, 1, 1) / 3)
    offset = torch.from_numpy(rows @ centre).float()
    assert proj.bias is not None
    proj.bias.copy_((weight.flatten(1).sum(1) * float(mean.mean())) - offset)


def _start_positions(table: torch.Tensor, grid: tuple[int, int]) -> None:
    """Waves of rows and of columns, a quarter of the width each for sine and cosine."""
    width, count = table.shape[-1], grid[0] * grid[1]
    rate = torch.exp(-math.log(30.0) * torch.arange(width // 4) / (width // 4))
    rows, cols = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    waves = [wave(axis.flatten()[:, None] * rate) for axis in (rows, cols) for wave in (torch.sin, torch.cos)]
    table[:, -count:] = 0.5 * torch.cat(waves, dim=1)


def _start_attention(attention: Any) -> None:
    heads, width = attention.num_heads, attention.qkv.in_features
    head = width // heads
    for index in range(heads):
        left, scale, right = torch.linalg.svd(0.7 * _noise(width) + 0.7 * torch.eye(width))
        root = scale[:head].sqrt()
        attention.qkv.weight[index * head : (index + 1) * head] = (left[:, :head] * root).T
        attention.qkv.weight[width + index * head : width + (index + 1) * head] = root[:, None] * right[:head]
    left, scale, right = torch.linalg.svd(0.4 * _noise(width) - 0.4 * torch.eye(width))
    attention.qkv.weight[2 * width :] = scale.sqrt()[:, None] * right
    attention.proj.weight.copy_(left * scale.sqrt())


def _noise(width: int) -> torch.Tensor:
    return torch.randn(width, width) / math.sqrt(width)
