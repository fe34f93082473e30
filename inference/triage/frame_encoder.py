"""Frames through the image tower: pictures are prepared by threads while the tower runs, so that it does not wait for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from inference.reading import Frame
from inference.triage.precision import Encode
from inference.triage.preparation import Preparation

_BATCH: Final = {"cpu": 8, "cuda": 256}  # on a CPU a larger batch leaves the cache; a GPU wants many
_GROWS_AFTER: Final = 64  # batches without a lack of memory
_THREADS: Final = 4  # Pillow lets the interpreter go while it resizes


class FrameEncoder:
    """``encode``: pixels to unit embeddings, on ``device``. One thread owns it."""

    def __init__(self, preparation: Preparation, encode: Encode, device: torch.device) -> None:
        self._preparation = preparation
        self._encode = encode
        self._device = device
        self._batch = self._most = _BATCH.get(device.type, _BATCH["cpu"])
        self._grown = 0
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        """Unit embeddings of at least one frame, in its order: float32 (frames, width)."""
        order = sorted(range(len(frames)), key=lambda index: frames[index].pixels.ndim)  # grey, then colour: one form a batch
        prepared = self._map(self._preparation.pixels, [frames[index] for index in order])
        with torch.inference_mode():
            parts = [self._encoded(batch).float().cpu() for batch in self._batches(prepared)]
            vectors = torch.empty(len(frames), parts[0].shape[1])
            vectors[order] = torch.cat(parts)
        array: NDArray[np.float32] = vectors.numpy()
        return array

    def _encoded(self, pixels: torch.Tensor) -> torch.Tensor:
        """Through the tower; where the device has no room, in halves, which stay for what follows and grow back slowly."""
        try:
            vectors = self._encode(pixels)
        except torch.OutOfMemoryError:
            if len(pixels) == 1:
                raise
        else:
            self._grown += 1
            if self._batch < self._most and self._grown >= _GROWS_AFTER:
                self._batch, self._grown = min(self._most, 2 * self._batch), 0
            return vectors
        # Only here, past the handler, is the memory free that the failed pass held
        self._batch, self._grown = max(1, len(pixels) // 2), 0
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return torch.cat([self._encoded(half) for half in torch.split(pixels, self._batch)])

    def _map(self, prepare: Callable[[Frame], NDArray[np.uint8]], frames: Sequence[Frame]) -> Iterator[NDArray[np.uint8]]:
        if len(frames) == 1:
            return map(prepare, frames)
        self._pool = self._pool or ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "prepare-frames")
        return self._pool.map(prepare, frames)

    def _batches(self, prepared: Iterator[NDArray[np.uint8]]) -> Iterator[torch.Tensor]:
        for _, alike in groupby(prepared, key=len):
            while batch := list(islice(alike, self._batch)):
                pixels = torch.from_numpy(np.stack(batch))
                if self._device.type == "cuda":
                    pixels = pixels.pin_memory().to(self._device, non_blocking=True)
                yield pixels
