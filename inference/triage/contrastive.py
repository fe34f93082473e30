"""Zero-shot triage by a contrastive model: how much nearer is a film to "pneumothorax" than to "no pneumothorax"?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from inference.bundles import Bundle
from inference.errors import BundleError, CatalogueError
from inference.reading import Frame
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.open_clip_folder import ContrastiveModel, open_folder

JUDGES: Final = "wetread.json"  # in a bundle trained for some findings only: {"findings": [key, …]}
BATCH: Final = 16


class Triage:
    """A contrastive model and the catalogue's prompts as two directions for each finding. One thread owns it."""

    def __init__(self, bundle: Bundle, catalogue: FindingsCatalogue, model: ContrastiveModel, device: torch.device) -> None:
        self.bundle = bundle
        self.judged = _judged(bundle, catalogue)
        self._model = model
        self._device = device
        with torch.inference_mode():
            self._scale = model.net.logit_scale.exp().float()
            positive = [self._direction(catalogue.texts(entry.positive)) for entry in catalogue.findings]
            negative = [self._direction(catalogue.texts(entry.negative)) for entry in catalogue.findings]
            self._contrast = torch.stack(positive) - torch.stack(negative)  # (entries, width)

    @classmethod
    def load(cls, bundle: Bundle, catalogue: FindingsCatalogue, device: torch.device) -> Triage:
        """Load from the bundle's folder, without network, and embed every prompt once.

        Raises BundleError where the bundle cannot be opened, CatalogueError where a prompt is too long for the model.
        """
        return cls(bundle, catalogue, open_folder(bundle.folder, device), device)

    def score(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        """Probability of each finding on each frame, of which there is at least one: float32 (frames, entries), 0..1.

        The softmax over (positive, negative) at the model's own logit scale, so 0.5 is where the two are equally near.
        """
        with torch.inference_mode():
            margin = self._scale * self._embed(frames) @ self._contrast.T  # (frames, entries)
            scores: NDArray[np.float32] = torch.sigmoid(margin).cpu().numpy()  # softmax of two is the sigmoid of their margin
        return scores

    def embed(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        """Unit embeddings: float32 (frames, width)."""
        with torch.inference_mode():
            vectors: NDArray[np.float32] = self._embed(frames).cpu().numpy()
        return vectors

    def _embed(self, frames: Sequence[Frame]) -> torch.Tensor:
        batches = [frames[start : start + BATCH] for start in range(0, len(frames), BATCH)]
        parts = [self._model.net.encode_image(self._batch(batch), normalize=True).float() for batch in batches]
        return torch.cat(parts)  # (frames, width)

    def _batch(self, frames: Sequence[Frame]) -> torch.Tensor:
        images = [self._model.transform(Image.fromarray(frame.pixels)) for frame in frames]  # grey to RGB after the resize
        return torch.stack(images).to(self._device)  # (frames, 3, size, size)

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        tokens = self._model.tokenize(list(texts))  # (texts, context)
        used = int((tokens != self._model.pad).sum(dim=1).max())
        if used == tokens.shape[1]:
            _refuse_cut(tokens, self._model.pad, texts)
        if self._model.masked:
            tokens = tokens[:, :used]  # BERT masks padding: the same vectors, a tenth of the work
        vectors: torch.Tensor = self._model.net.encode_text(tokens.to(self._device), normalize=True).float()  # (texts, width)
        return vectors

    def _direction(self, texts: Sequence[str]) -> torch.Tensor:
        """Mean of the unit embeddings, made unit again (Radford 2021, 3.1.4)."""
        return torch.nn.functional.normalize(self._embed_texts(texts).mean(dim=0), dim=0)  # (width,)


def _refuse_cut(tokens: torch.Tensor, pad: int, texts: Sequence[str]) -> None:
    """A text that fills the whole context was most likely cut, and a cut "no …" can turn its meaning round."""
    full = (tokens != pad).all(dim=1).nonzero().flatten().tolist()
    raise CatalogueError(f"the prompt {texts[full[0]]!r} is longer than the {tokens.shape[1]} tokens this model reads")


def _judged(bundle: Bundle, catalogue: FindingsCatalogue) -> frozenset[str]:
    """The catalogue keys this bundle may judge: all, unless it says for which findings it was trained."""
    if JUDGES not in dict(bundle.files):
        return frozenset(catalogue.keys)
    path: Path = bundle.path(JUDGES)
    try:
        trained = json.loads(path.read_text("utf-8"))["findings"]
        return frozenset(catalogue.keys) & frozenset(str(key) for key in trained)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: damaged ({error!r}); import or copy the bundle again") from error
