"""Draw a picture of one of the kinds that reach a chest node by mistake, or of the one kind that should."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.phantoms.draw import draw_phantom
from inference.phantoms.kinds_body import draw_abdomen, draw_animal, draw_lateral
from inference.phantoms.kinds_bone import draw_hand, draw_limb, draw_skull
from inference.phantoms.kinds_other import draw_ct, draw_photograph, draw_text

FRONTAL: Final = "chest_frontal"
TURNED: Final = ("inverted", "upside_down", "rotated")  # made of a frontal film
_DRAWN: Final = MappingProxyType(
    {
        "chest_lateral": draw_lateral,
        "hand": draw_hand,
        "limb": draw_limb,
        "abdomen": draw_abdomen,
        "skull": draw_skull,
        "ct": draw_ct,
        "photograph": draw_photograph,
        "animal": draw_animal,
        "text": draw_text,
    }
)
OTHERS: Final = tuple(_DRAWN)
KINDS: Final = (FRONTAL, *OTHERS, *TURNED)

_Turn = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
_TURNS: Final[MappingProxyType[str, _Turn]] = MappingProxyType(
    {
        "inverted": lambda film, _: np.invert(film),
        "upside_down": lambda film, choice: np.rot90(film, 2) if choice % 2 else np.flipud(film),
        "rotated": lambda film, choice: np.rot90(film, 1 if choice % 2 else 3),
    }
)


def draw_kind(kind: str, seed: int, size: int = 512) -> NDArray[np.uint8]:
    """Draw the picture of ``seed`` of a kind in ``KINDS``: uint8 (size, size) grey, a photograph (size, size, 3) RGB.

    "inverted": grey values the wrong way round; "upside_down": turned by half a circle or mirrored top to bottom; "rotated":
    lying on its side; "text": writing or next to nothing. Raises ValueError for another kind or a size below 32.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; allowed: {', '.join(KINDS)}")
    if size < 32:
        raise ValueError(f"size is {size}; a picture has at least 32 pixels a side")
    if kind in _DRAWN:
        return _DRAWN[kind](np.random.default_rng((seed, 30 + KINDS.index(kind))), size)
    film = draw_phantom(seed, size=size).pixels
    return film if kind == FRONTAL else turn_film(kind, film, seed)


def turn_film(kind: str, film: NDArray[np.uint8], choice: int) -> NDArray[np.uint8]:
    """A frontal film (rows, columns) as a kind of ``TURNED``; ``choice`` (odd or even) picks the way."""
    return np.ascontiguousarray(_TURNS[kind](film, choice))
