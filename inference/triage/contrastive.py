"""Zero-shot triage by a contrastive model: how much nearer is a film to "pneumothorax" than to "no pneumothorax"?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from inference.bundles import Bundle
from inference.reading import Frame
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.frame_encoder import FrameEncoder
from inference.triage.image_tower import ImageModel, ImageTower, image_half, open_image_half
from inference.triage.open_clip_folder import open_folder
from inference.triage.parity import Questions
from inference.triage.precision import choose
from inference.triage.preparation import Preparation, Resizing
from inference.triage.prompt_cache import PromptCache
from inference.triage.text_embedder import TextEmbedder
from inference.triage.trained import JUDGES, trained_for

__all__ = ["JUDGES", "Triage"]


@dataclass(frozen=True, slots=True)
class How:
    """How the image tower is to run. ``records``: the folder of what was measured, or None."""

    device: torch.device
    precision: str = "float32"
    resizing: Resizing = "exact"
    records: Path | None = None


class Triage:
    """A contrastive model and the catalogue's prompts as two directions for each finding. One thread owns it.

    ``contrasts``: float32 (entries, width), the positive less the negative direction of each catalogue entry, in its order.
    ``scale``: what a cosine is multiplied with to be a logit. ``precision``: the arithmetic of the image tower
    and a resizing other than the published, for a document; ``why``: how that came, for an operator.
    """

    def __init__(self, bundle: Bundle, catalogue: FindingsCatalogue, image: ImageModel, texts: TextEmbedder, how: How) -> None:
        self.bundle = bundle
        self.judged = _judged(bundle, catalogue)
        self.scale = float(image.tower.logit_scale.exp())
        self._image = image
        self._texts = texts
        positive = [self.direction(catalogue.texts(entry.positive)) for entry in catalogue.findings]
        negative = [self.direction(catalogue.texts(entry.negative)) for entry in catalogue.findings]
        self.contrasts: NDArray[np.float32] = np.stack(positive) - np.stack(negative)
        preparation = Preparation(image.transform, how.resizing)
        chosen = choose(
            how.precision, image.tower, preparation, self._questions(catalogue), how.device, how.records, bundle.digest
        )
        self.precision = chosen.name if how.resizing == "exact" else f"{chosen.name}, {how.resizing} resizing"
        self.why = chosen.why
        self._encode = FrameEncoder(preparation, chosen.encode, how.device)

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        catalogue: FindingsCatalogue,
        device: torch.device,
        *,
        precision: str = "float32",
        resizing: Resizing = "exact",
        cache: Path | None = None,
    ) -> Triage:
        """Load from the bundle's folder, without network, and embed every prompt that ``cache`` does not hold.

        ``precision``: auto, float32 or bfloat16; ``resizing``: exact as published, or fast. ``cache``: a folder for what need
        not be worked out twice; None: keep nothing. Where every prompt is known, the text tower is not even loaded.
        Raises BundleError where the bundle cannot be opened, CatalogueError where a prompt is too long for the model.
        """
        prompts = PromptCache(cache / "prompts" if cache else None, bundle.digest)
        texts = TextEmbedder(lambda: open_folder(bundle.folder, device), device, prompts)
        texts.embed(catalogue.all_texts)
        opened = texts.release()
        image = image_half(opened) if opened else open_image_half(bundle.folder, device)
        del opened  # with it goes the text tower
        return cls(bundle, catalogue, image, texts, How(device, precision, resizing, cache / "triage" if cache else None))

    @property
    def net(self) -> ImageTower:
        """The image tower in float32, for gradients and hooks; texts go through ``embed_texts``."""
        return self._image.tower

    @property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """The model's own preprocessing: PIL image, grey or RGB, to float32 (3, size, size)."""
        return self._image.transform

    def score(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        """Zero-shot probability of each finding on each frame, of which there is at least one: float32 (frames, entries), 0..1.

        The softmax over (positive, negative) at the model's own logit scale, so 0.5 is where the two are equally near.
        """
        return self.probabilities(self.embed(frames))

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same from unit embeddings, float32 (frames, width)."""
        margins = torch.from_numpy(self.margins_of(vectors))
        scores: NDArray[np.float32] = torch.sigmoid(margins).numpy()  # softmax of two is the sigmoid of their margin
        return scores

    def margins(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        """Logits of ``score``: float32 (frames, entries)."""
        return self.margins_of(self.embed(frames))

    def margins_of(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits from unit embeddings, float32 (frames, width), so that one pass of the tower serves all that asks."""
        margins: NDArray[np.float32] = (self.scale * vectors @ self.contrasts.T).astype(np.float32)
        return margins

    def embed(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        """Unit embeddings of at least one frame: float32 (frames, width)."""
        return self._encode(frames)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit embeddings of at least one text: float32 (texts, width). Raises CatalogueError where a text is too long."""
        return self._texts.embed(texts)

    def direction(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What several texts say together, float32 (width,): mean of their unit embeddings, made unit (Radford 2021, 3.1.4)."""
        mean = self.embed_texts(texts).mean(axis=0)
        unit: NDArray[np.float32] = mean / np.linalg.norm(mean)
        return unit

    def _questions(self, catalogue: FindingsCatalogue) -> Questions:
        asked = [index for index, entry in enumerate(catalogue.findings) if entry.key in self.judged]
        thresholds = np.array([catalogue.findings[index].threshold for index in asked], np.float64)
        return Questions(self.contrasts[asked], thresholds, self.scale)


def _judged(bundle: Bundle, catalogue: FindingsCatalogue) -> frozenset[str]:
    """The catalogue keys this bundle may judge: all, unless it says for which findings it was trained."""
    trained = trained_for(bundle).findings
    return frozenset(catalogue.keys) if trained is None else frozenset(catalogue.keys) & trained
