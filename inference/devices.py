"""What a device's failures mean, in this package's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inference.errors import DeviceError, DeviceFull, DeviceLost


@contextmanager
def device_errors(device: torch.device, doing: str) -> Iterator[None]:
    """Translates what ``device`` raises while ``doing``: DeviceFull, DeviceLost, or DeviceError for what may pass.

    On the processor only a lack of memory is the device's fault: other errors are faults of ours, and stay what they are.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if device.type == "cpu" and not full:
            raise
        text = f"{device}: {doing} failed ({first_line(error)})"
        if full:
            _give_back(device)
            raise DeviceFull(text) from error
        raise (DeviceError(text) if _answers(device) else DeviceLost(text)) from error


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _answers(device: torch.device) -> bool:
    """Whether the device still computes: after a CUDA error every later call of the process fails too."""
    try:
        return bool((torch.ones(1, device=device) + 1).item() == 2)
    except RuntimeError:
        return False


def _give_back(device: torch.device) -> None:
    """What torch keeps for later allocations is in the way of smaller ones of another shape."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
