"""Embeddings of texts, kept: prompts are fixed, so that the text tower need run once only, and not at every start.

A cache file belongs to one model and one set of library versions. Nothing in it is trusted before its sha256, form and
numbers were checked: a file that fails is left aside and made anew. Texts themselves are not stored, only their sha256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.cache_files import read_checked, write_checked

MOST: Final = 50_000  # texts in one file: 100 MB of 512 numbers; the newest are kept
_LIBRARIES: Final = ("open_clip_torch", "tokenizers", "torch", "transformers")  # another tokenizer may make other tokens
_UNIT: Final = 1e-3  # how far from 1 the length of a unit vector may be

Vectors = dict[str, NDArray[np.float32]]


class PromptCache:
    """Text to unit embedding, in memory and, where a folder is given, in a file of the model. One thread owns it."""

    def __init__(self, folder: Path | None, digest: str) -> None:
        """``digest``: the bundle's. A file that cannot be read or trusted counts as absent."""
        self._identity = {"model": digest, **{name: version(name) for name in _LIBRARIES}}
        name = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
        self._path = folder / f"{name[:32]}.prompts" if folder else None
        self._vectors = self._read()

    def get(self, text: str) -> NDArray[np.float32] | None:
        """float32 (width,), or None where it is not known."""
        return self._vectors.get(_key(text))

    def add(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Remember the embedding of each text, and write the file whole; where that fails, it is remembered in memory only."""
        if not vectors:
            return
        self._vectors = self._read() | self._vectors | {_key(text): vector for text, vector in vectors.items()}
        self._vectors = dict(list(self._vectors.items())[-MOST:])
        if self._path:
            keys = list(self._vectors)
            width = len(self._vectors[keys[0]])
            head = json.dumps({"identity": self._identity, "width": width, "texts": keys}).encode()
            write_checked(self._path, head + b"\n" + np.stack(list(self._vectors.values())).astype("<f4").tobytes())

    def _read(self) -> Vectors:
        content = read_checked(self._path) if self._path else None
        if content is None:
            return {}
        try:
            head, _, body = content.partition(b"\n")
            said = json.loads(head)
            table = np.frombuffer(body, "<f4").reshape(len(said["texts"]), int(said["width"])).astype(np.float32)
        except (ValueError, KeyError, TypeError):
            return {}
        sound = said["identity"] == self._identity and _is_unit(table)
        return dict(zip(said["texts"], table, strict=True)) if sound else {}


def _is_unit(table: NDArray[np.float32]) -> bool:
    return bool((np.abs(np.linalg.norm(table.astype(np.float64), axis=1) - 1) < _UNIT).all())  # NaN is not below


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
