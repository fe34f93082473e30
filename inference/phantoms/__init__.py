"""Phantoms: procedurally drawn films with known findings, and the tiny models that read them. Not for patients."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from inference.bundles import KINDS
from inference.phantoms.ct import draw_ct_phantom
from inference.phantoms.draw import Box, Phantom, draw_phantom
from inference.phantoms.lesions import KEYS

__all__ = ["KEYS", "Box", "Phantom", "bundle_folder", "draw_ct_phantom", "draw_phantom"]

_BUNDLES: Final = Path(__file__).resolve().parent / "bundles"


def bundle_folder(kind: str) -> Path:
    """The folder of the phantom bundle of ``kind`` (biomedclip or biomedgpt) that ships with the project.

    Raises ValueError for a kind that has none.
    """
    shipped = [name for name in KINDS if name != "clip"]
    if kind not in shipped:
        raise ValueError(f"no phantom bundle of kind {kind!r}; there are: {', '.join(shipped)}")
    return _BUNDLES / f"{kind}-phantom"
