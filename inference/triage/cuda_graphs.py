"""A tower on a CUDA device by graphs: the hundreds of kernels of one pass are started by one call.

Written without such a device at hand and untested on one; the gate of ``parity`` stands before its use there as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from inference.triage.tower import FastTower

LADDER: Final = (1, 4, 16, 64, 256)  # batch sizes that have a graph; a batch is filled up to the next
_WARM: Final = 3  # passes before a capture, in which libraries choose kernels and take their work space


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    graph: torch.cuda.CUDAGraph
    pixels: torch.Tensor
    vectors: torch.Tensor


class GraphedTower:
    """As ``FastTower``; graphs are captured at their first use. One thread owns it."""

    def __init__(self, tower: FastTower, device: torch.device) -> None:
        """Raises RuntimeError where ``device`` has no CUDA graphs."""
        if device.type != "cuda":
            raise RuntimeError("CUDA graphs need a CUDA device")
        self._tower = tower
        self._device = device
        self._captured: dict[tuple[int, ...], _Captured] = {}

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """As ``FastTower.__call__``, of any number of images."""
        return torch.cat([self._run(part) for part in torch.split(pixels.to(self._device), LADDER[-1])])

    def _run(self, pixels: torch.Tensor) -> torch.Tensor:
        size = next(step for step in LADDER if step >= len(pixels))
        shape = (size, *pixels.shape[1:])
        captured = self._captured.get(shape) or self._captured.setdefault(shape, self._capture(shape))
        captured.pixels[: len(pixels)].copy_(pixels)
        captured.graph.replay()
        return captured.vectors[: len(pixels)].clone()  # the next replay writes over it

    def _capture(self, shape: tuple[int, ...]) -> _Captured:
        pixels = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM):
                self._tower(pixels)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            vectors = self._tower(pixels)
        return _Captured(graph, pixels, vectors)
