"""Searches on a CUDA device by graphs: the kernels of one step are started by one call.

Batches are filled up to a bucket, so that a step recorded once serves all later searches of its shape. Written without such a
device at hand: what does not touch CUDA is tested on the CPU, recording itself is untested.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Protocol

import torch
from torch.nn import functional

from inference.drafting.hypotheses import GenerationSettings, Hypothesis, TokenSet
from inference.drafting.model import Encoded, Ofa
from inference.drafting.search import Run, Search

SOURCE_GRAIN: Final = 64  # source positions are filled up to a multiple of this
PATIENCE: Final = 8  # steps between two looks at who has finished
SHAPES: Final = 4  # kinds of search whose buffers are kept


class CudaGraphs:
    """Does the work of each key at once the first time, records it the second time, and replays it from then on."""

    def __init__(self) -> None:
        self._warm: set[Hashable] = set()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def __call__(self, key: Hashable, work: Callable[[], None], /) -> None:
        if key not in self._warm:  # libraries choose kernels and take their work space
            self._warm.add(key)
            work()
            return
        if key not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                work()
            self._graphs[key] = graph
        self._graphs[key].replay()


class NewRun(Protocol):
    def __call__(self) -> Run: ...


@dataclass(slots=True, eq=False)
class Recorder:
    """Searches with their buffers and recorded steps, by kind; those used least recently are forgotten."""

    new_run: NewRun = CudaGraphs
    _searches: OrderedDict[Hashable, Search] = field(default_factory=OrderedDict)

    def generate(
        self, model: Ofa, encoded: Encoded, settings: GenerationSettings, tokens: TokenSet | None
    ) -> list[list[Hypothesis]]:
        """As ``generation.generate`` without a prefix."""
        images, filled = len(encoded.out), fill(encoded)
        key = (settings, filled.out.shape, id(tokens))
        search = self._searches.pop(key, None)
        if search is None:
            search = Search(model, filled, settings, None, tokens, run=self.new_run(), room=bucket, patience=PATIENCE)
        search.again(filled, images)
        self._searches[key] = search  # last: used most recently
        while len(self._searches) > SHAPES:
            self._searches.popitem(last=False)
        return search.run()


def bucket(images: int) -> int:
    """The next power of two."""
    return 1 << max(images - 1, 0).bit_length()


def fill(encoded: Encoded) -> Encoded:
    """A batch up to its buckets: the images more are copies of the last, the source positions more are padding."""
    images, length = encoded.out.shape[:2]
    more = -length % SOURCE_GRAIN
    rows = torch.arange(bucket(images), device=encoded.out.device).clamp_max(images - 1)
    return Encoded(
        functional.pad(encoded.out[rows], (0, 0, 0, more)),
        functional.pad(encoded.padding[rows], (0, more), value=True),
        functional.pad(encoded.positions, (0, 0, 0, more)),
    )
