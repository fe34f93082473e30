"""Which part of a frame a model sees: its own transform, followed backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from inference.errors import BundleError

Box = tuple[float, float, float, float]


def seen_box(transform: Callable[..., Any], rows: int, columns: int) -> Box:
    """The part of a frame of ``rows`` × ``columns`` pixels that ``transform`` keeps: (top, left, bottom, right) in its pixels.

    Edges, not centres, counted from the frame's upper left corner; where the transform pads, the box reaches beyond the frame.
    Raises BundleError for a transform made of steps that are not known to keep the picture upright.
    """
    steps = transform.transforms if isinstance(transform, Compose) else [transform]
    size, top, left, scale = (rows, columns), 0.0, 0.0, (1.0, 1.0)  # frame pixels for one pixel of the picture so far
    for step in steps:
        if isinstance(step, Resize):
            new = _resized(size, step.size)
            scale = (scale[0] * size[0] / new[0], scale[1] * size[1] / new[1])
            size = new
        elif isinstance(step, CenterCrop):
            kept = _pair(step.size)
            top += _offset(size[0], kept[0]) * scale[0]
            left += _offset(size[1], kept[1]) * scale[1]
            size = kept
        elif not (isinstance(step, ToTensor | Normalize) or type(step).__name__ in ("MaybeConvertMode", "MaybeToTensor")):
            raise BundleError(f"the model's transform has a step {type(step).__name__} that heat maps cannot follow")
    return top, left, top + size[0] * scale[0], left + size[1] * scale[1]


def _resized(size: tuple[int, int], wanted: Any) -> tuple[int, int]:
    """As torchvision: a single number is the shorter side, the longer is cut down to whole pixels."""
    if not isinstance(wanted, int) and len(wanted) == 2:
        return _pair(wanted)
    short = wanted if isinstance(wanted, int) else wanted[0]
    long = int(short * max(size) / min(size))
    return (short, long) if size[0] <= size[1] else (long, short)


def _offset(size: int, kept: int) -> int:
    """Where torchvision's centre crop begins; negative where it pads, then with the smaller half before."""
    return round((size - kept) / 2) if size >= kept else -((kept - size) // 2)


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
