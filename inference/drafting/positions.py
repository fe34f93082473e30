"""Relative-position buckets of OFA: which row of a bias table two positions look up (UT:53-82 of the reference)."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

# The reference fixes this for the logarithmic part of the text buckets, whatever the sequence length.
LOG_RANGE: Final = 1024


def token_buckets(bucket: int, length: int) -> Tensor:
    """Bucket of each (query, key) pair of text positions: int64 (length, length), 0..2·bucket−2.

    Distances up to bucket/2 have a bucket of their own, longer ones share buckets logarithmically up to 1024.
    """
    position = torch.arange(length)
    distance = position[:, None] - position[None, :]  # (length, length), query minus key
    middle = bucket // 2
    near = distance.abs() < middle
    clipped = torch.where(near, torch.tensor(middle - 1), distance.abs())
    spread = torch.log(clipped / middle) / math.log((LOG_RANGE - 1) / middle) * (middle - 1)
    far = (torch.ceil(spread) + middle).int()
    signed = torch.where(clipped <= middle, distance, far * torch.sign(distance)).long()
    return signed + bucket - 1


def image_bucket_count(bucket: int) -> int:
    """Rows of an image bias table: every (row, column) offset in a bucket × bucket grid, and three for the extra position 0."""
    side: int = 2 * bucket - 1
    return side * side + 3


def image_buckets(bucket: int, positions: Tensor) -> Tensor:
    """Bucket of each pair of image positions: int64 (n, n).

    ``positions``: int64 (n,), 1 + row · bucket + column, or 0 for the position that is no patch (start of an image code).
    """
    grid = positions - 1
    row, column = grid // bucket, grid % bucket  # (n,)
    down = row[:, None] - row[None, :] + bucket - 1  # (n, n)
    across = column[:, None] - column[None, :] + bucket - 1
    buckets = down * (2 * bucket - 1) + across
    count = image_bucket_count(bucket)
    none = positions == 0
    buckets = buckets.masked_fill(none[:, None], count - 3)
    buckets = buckets.masked_fill(none[None, :], count - 2)
    return buckets.masked_fill(none[:, None] & none[None, :], count - 1)


def patch_positions(bucket: int, rows: int, columns: int) -> Tensor:
    """Position ids of a rows × columns grid of patches, row by row: int64 (rows · columns,)."""
    return (torch.arange(rows)[:, None] * bucket + torch.arange(columns)[None, :] + 1).flatten()


def code_positions(bucket: int, window: int, length: int) -> Tensor:
    """Position ids of an image written as codes: a start position, then a window × window grid. int64 (length,)."""
    return torch.cat([torch.zeros(1, dtype=torch.long), patch_positions(bucket, window, window)])[:length]
