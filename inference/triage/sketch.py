"""What a study's images look like to the model, in few numbers: for watching drift, not for judging."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

SKETCH_WIDTH: Final = 32  # a random projection keeps distances within about 1/sqrt(32) (Achlioptas 2003, "Database-friendly …")
_DIGITS: Final = 5


@lru_cache(maxsize=4)
def _signs(width: int) -> NDArray[np.float32]:
    """float32 (width, SKETCH_WIDTH) of ±1/sqrt(SKETCH_WIDTH): the same on every machine and with every version of numpy."""
    bits = np.frombuffer(hashlib.shake_256(b"wetread sketch").digest(width * SKETCH_WIDTH // 8), np.uint8)
    signs = np.unpackbits(bits).astype(np.float32).reshape(width, SKETCH_WIDTH) * 2 - 1
    return signs / np.float32(np.sqrt(SKETCH_WIDTH))


def sketch_of(vectors: NDArray[np.float32]) -> tuple[float, ...]:
    """The mean of unit embeddings, float32 (images, width), projected onto SKETCH_WIDTH directions; empty without images."""
    if not len(vectors):
        return ()
    return tuple(round(float(value), _DIGITS) for value in vectors.mean(axis=0) @ _signs(vectors.shape[1]))
