"""Texts to unit embeddings, by the text tower in float32, which runs only for texts that are not known yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import CatalogueError
from inference.triage.open_clip_folder import ContrastiveModel
from inference.triage.prompt_cache import PromptCache

BATCH: Final = 64


class TextEmbedder:
    """Opens the model at the first text that ``cache`` does not know. One thread owns it."""

    def __init__(self, open_model: Callable[[], ContrastiveModel], device: torch.device, cache: PromptCache) -> None:
        self._open_model = open_model
        self._device = device
        self._cache = cache
        self._model: ContrastiveModel | None = None  # held while open
        self._released = False

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit embeddings, float32 (texts, width), of at least one text. Raises CatalogueError where one is too long."""
        unknown = [text for text in dict.fromkeys(texts) if self._cache.get(text) is None]
        if unknown:
            self._cache.add(dict(zip(unknown, self._run(unknown), strict=True)))
        known = [self._cache.get(text) for text in texts]
        return np.stack([vector for vector in known if vector is not None])

    def release(self) -> ContrastiveModel | None:
        """Let the model go, and hand it over where it was open. Opened again, it keeps no image tower."""
        model, self._model, self._released = self._model, None, True
        return model

    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model = self._model = self._model or self._opened()
        with torch.inference_mode():
            parts = [self._batch(model, texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
            vectors: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
        return vectors

    def _opened(self) -> ContrastiveModel:
        model = self._open_model()
        if self._released:
            model.net.visual = torch.nn.Identity()  # the image half is held elsewhere
        return model

    def _batch(self, model: ContrastiveModel, texts: Sequence[str]) -> torch.Tensor:
        tokens = model.tokenize(list(texts))  # (texts, context)
        used = int((tokens != model.pad).sum(dim=1).max())
        if used == tokens.shape[1]:
            _refuse_cut(tokens, model.pad, texts)
        if model.masked:
            tokens = tokens[:, :used]  # BERT masks padding: the same vectors, a tenth of the work
        vectors: torch.Tensor = model.net.encode_text(tokens.to(self._device), normalize=True).float()  # (texts, width)
        return vectors


def _refuse_cut(tokens: torch.Tensor, pad: int, texts: Sequence[str]) -> None:
    """A text that fills the whole context was most likely cut, and a cut "no …" can turn its meaning round."""
    full = (tokens != pad).all(dim=1).nonzero().flatten().tolist()
    raise CatalogueError(f"the prompt {texts[full[0]]!r} is longer than the {tokens.shape[1]} tokens this model reads")
