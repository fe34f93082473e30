"""Is a fast image tower the same as the published one? Compared on a reference set before it may be used.

The set is made here, the same on each machine: drawn films, one of them inverted, and pictures without form (noise, a ramp),
whose embeddings lie elsewhere. A fast tower must keep every direction, every probability and every decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from inference.phantoms import draw_phantom
from inference.reading import Frame, FrameSource
from inference.triage.preparation import Preparation

COSINE: Final = 0.999  # bfloat16 of a ViT-B/16 stays above 0.9998; a wrong layer falls far below
MOVE: Final = 0.02  # of a probability
NOISE: Final = 0.1  # error as a part of the distance between pictures: above it, half precision drowns what tells them apart
BAND: Final = 0.005  # a decision this near to its threshold is turned by rounding alone, and is not counted
FORM: Final = 1  # raised when the set changes

_FILMS: Final = range(70_001, 70_006)  # seeds of drawn films
_SOURCE: Final = FrameSource("2.25.0", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.0")


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """What decisions rest on: ``contrasts`` float32 (entries, width), ``thresholds`` (entries), and the logit scale."""

    contrasts: NDArray[np.float32]
    thresholds: NDArray[np.float64]
    scale: float

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """(images, entries), 0..1."""
        margins = self.scale * vectors.astype(np.float64) @ self.contrasts.T.astype(np.float64)
        probabilities: NDArray[np.float64] = 0.5 * (1 + np.tanh(margins / 2))
        return probabilities


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a fast tower is from the published one over the reference set.

    ``cosine``: the lowest of all images. ``noise``: the largest error over the root mean square distance of the pictures from
    their mean. ``move``: the largest change of a probability. ``flips``: decisions that turned, of
    ``decisions`` whose probability is not within ``BAND`` of its threshold.
    """

    cosine: float
    noise: float
    move: float
    flips: int
    decisions: int

    @property
    def refusal(self) -> str:
        """Why the fast tower must not be used; empty where it may."""
        if not self.cosine >= COSINE:  # NaN is not at or above
            return f"its lowest cosine with float32 is {self.cosine:.6f}, less than {COSINE}"
        if not self.noise <= NOISE:
            return f"its error is {self.noise:.3f} of the distance between pictures, more than {NOISE}"
        if self.flips:
            return f"{self.flips} of {self.decisions} decisions on the reference set turned"
        if not self.move <= MOVE:
            return f"a probability moved by {self.move:.4f}, more than {MOVE}"
        return ""


def reference_set(preparation: Preparation) -> list[torch.Tensor]:
    """Batches of pixels, uint8 (n, 1 or 3, rows, columns): twice four grey pictures, then two in colour."""
    side = 256
    films = [draw_phantom(seed, size=side).pixels for seed in _FILMS]
    noise = np.random.default_rng(0).integers(0, 256, (3, side, side), dtype=np.uint8)
    ramp = np.add.outer(np.arange(side), np.arange(side)) // 2
    greys = [*films, 255 - films[0], noise[0], ramp.astype(np.uint8)]
    colours = [noise.transpose(1, 2, 0), np.stack([films[1], films[2], films[3]], axis=-1)]
    return [_batch(preparation, pictures) for pictures in (greys[:4], greys[4:], colours)]


def compare(reference: NDArray[np.float32], fast: NDArray[np.float32], questions: Questions) -> Parity:
    """``reference``, ``fast``: unit embeddings of the same images, float32 (images, width)."""
    exact, other = reference.astype(np.float64), fast.astype(np.float64)
    cosines = (exact * other).sum(axis=1)
    spread = np.sqrt(np.square(exact - exact.mean(axis=0)).sum(axis=1).mean())
    noise = float(np.linalg.norm(other - exact, axis=1).max() / max(spread, 1e-9))
    before, after = questions.probabilities(reference), questions.probabilities(fast)
    clear = np.abs(before - questions.thresholds) > BAND
    turned = clear & ((before >= questions.thresholds) != (after >= questions.thresholds))
    return Parity(
        float(cosines.min()), noise, float(np.abs(before - after).max(initial=0)), int(turned.sum()), int(clear.sum())
    )


def _batch(preparation: Preparation, pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
    frames = [Frame(np.ascontiguousarray(picture), _SOURCE, "DX") for picture in pictures]
    return torch.from_numpy(np.stack([preparation.pixels(frame) for frame in frames]))
