"""In which arithmetic BiomedGPT runs on a machine: chosen once, when the model is loaded, and prepared for it.

float32 is the reference. bfloat16 halves the weights that every token has to read; it is used where it was asked for, or where
a short measurement on this processor shows that it pays, and never where a trial shows other probabilities than float32 has.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.cache_files import read_checked, write_checked
from inference.drafting.graphs import Recorder
from inference.drafting.layers import PATCH_STRIDE
from inference.drafting.model import BOS, EOS, Ofa
from inference.drafting.packed import PackedLinear, packs
from inference.drafting.packing import fold, linear_of, pack

PRECISIONS: Final = ("auto", "float32", "bfloat16")
# How far bfloat16 may move the probabilities of a next token (total variation, 0..1).
LARGEST_SHIFT: Final = 0.1
GAIN: Final = 1.15  # how much faster bfloat16 must be to be chosen: below that, rounding buys nothing
_TRIAL_TOKENS: Final = 12
_ROUNDS: Final = 7
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """``precision``: what runs, float32 or bfloat16. ``why``: how that came, for a log."""

    model: Ofa
    precision: str
    why: str


def prepare(model: Ofa, device: torch.device, *, precision: str = "float32", cache: Path | None = None) -> Prepared:
    """Put a loaded float32 model on a device in the precision asked for; the model given is used up.

    ``precision``: float32, bfloat16 (float32 where the trial forbids it), or auto (bfloat16 where it is faster and passes the
    trial). ``cache``: a folder where the measurement of this processor is remembered, so that a restart chooses the same.
    Raises ValueError for another word, RuntimeError where the device refuses the model.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
    fold(model).to(device)
    half, why = precision == "bfloat16", f"precision {precision} is set"
    if precision == "auto":
        gain = remembered_gain(model, device, cache)
        half, why = gain >= GAIN, f"bfloat16 was measured {gain:.2f} times as fast as float32 here"
    if half and (shift := _halve(model)) > LARGEST_SHIFT:
        half, why = False, f"bfloat16 moves probabilities by up to {shift:.3f}, more than {LARGEST_SHIFT}"
        _log.warning("the drafting model runs in float32: %s", why)
    if device.type == "cpu" and packs(model.dtype):
        pack(model)
    if device.type == "cuda":
        model.recorder = Recorder()
    return Prepared(model, "bfloat16" if half else "float32", why)


def remembered_gain(model: Ofa, device: torch.device, cache: Path | None) -> float:
    """``measured_gain``, or what the cache folder remembers of it."""
    path = gain_file(model, device, cache) if cache else None
    try:
        return float((read_checked(path) or b"") if path else b"")
    except ValueError:
        gain = measured_gain(model, device)
    if path:
        write_checked(path, f"{gain:.4f}".encode())
    return gain


def gain_file(model: Ofa, device: torch.device, cache: Path) -> Path:
    """Where the measurement is kept: one for each width of model, machine, number of threads and version of torch."""
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    else:
        machine = f"{platform.processor() or platform.machine()}-{os.cpu_count()}-{torch.get_num_threads()}"
    name = f"gain-{model.config.width}-{torch.__version__}-{machine}"
    return cache / "drafting" / "".join(c if c.isalnum() else "-" for c in name)


@torch.inference_mode()
def measured_gain(model: Ofa, device: torch.device) -> float:
    """How many times as fast as in float32 the products of a draft are in bfloat16.

    Both kinds: a few rows by a matrix that no cache holds (a step of the search), many rows by one that it holds (the encoder).
    """
    if device.type == "cuda":
        return 2.0 if torch.cuda.is_bf16_supported(including_emulation=False) else 0.0
    if device.type != "cpu" or not packs(torch.bfloat16):
        return 0.0
    large, small = model.embed_tokens.weight[: 32 * 1024], model.embed_tokens.weight[:2048]
    exact, half = torch.float32, torch.bfloat16
    steps = best_seconds([_products(large, 5, dtype) for dtype in (exact, half)])
    encoder = best_seconds([_products(small, 512, dtype) for dtype in (exact, half)])
    return (steps[0] + encoder[0]) / (steps[1] + encoder[1])


def _products(matrix: Tensor, rows: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    x, weight = torch.linspace(-1, 1, rows * matrix.shape[1]).view(rows, -1).to(dtype), matrix.to(dtype)
    return partial(PackedLinear(weight, None) if packs(dtype) else partial(functional.linear, weight=weight), x)


def best_seconds(work: Sequence[Callable[[], Tensor]]) -> list[float]:
    """Of each kind of work the best of some runs, in turns: other work on the machine comes and goes."""
    best = [math.inf] * len(work)
    for _ in range(_ROUNDS):
        for i, once in enumerate(work):
            start = time.perf_counter()
            once()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def _halve(model: Ofa) -> float:
    """Go over to bfloat16, and say what it moves (``LARGEST_SHIFT``); where that is too much, nothing is changed.

    The embedding matrix stays in float32: by it the best tokens are told apart exactly.
    """
    exact = _trial(model)
    kept = model.state_dict()
    model.bfloat16()
    model.output = linear_of(model.embed_tokens.weight)
    model.embed_tokens.weight = nn.Parameter(kept["embed_tokens.weight"], requires_grad=False)
    shift = float((exact - _trial(model)).abs().sum(dim=-1).max() / 2)
    model.encoder.remember_biases()
    if not shift <= LARGEST_SHIFT:  # NaN is no small shift
        model.output = None
        model.float().load_state_dict(kept, assign=True)
        model.requires_grad_(False)
    return shift


@torch.inference_mode()
def _trial(model: Ofa) -> Tensor:
    """Probabilities (T, V) of each next token of a fixed text, after a fixed image."""
    device, side = model.embed_tokens.weight.device, PATCH_STRIDE * min(model.config.image_bucket, 8)
    row = torch.linspace(-3, 3, side, device=device)
    image = (row[:, None] * row[None, :]).sin().expand(1, 3, side, side)
    count = min(_TRIAL_TOKENS, model.config.max_positions - 2)
    text = torch.linspace(EOS + 2, model.config.vocabulary - 1, count, device=device).long()
    begin, end = torch.tensor([[BOS], [EOS]], device=device)
    return model(torch.cat([begin, text, end])[None], image, torch.cat([begin, text])[None])[0].softmax(dim=-1)  # type: ignore[no-any-return]
