"""Will a model understand a catalogue's words? Prompts it would cut, and sides it can hardly tell apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from inference.bundles import Bundle
from inference.triage.catalogue import FindingsCatalogue, in_templates
from inference.triage.open_clip_folder import open_folder
from inference.triage.prompt_cache import PromptCache
from inference.triage.scope import asked_kinds
from inference.triage.text_embedder import TextEmbedder
from inference.triage.trained import trained_for

NEAR: Final = 0.98  # cosine of two directions from which they count as nearly one


@dataclass(frozen=True, slots=True)
class Note:
    """``fault``: the catalogue cannot be used with this model. Otherwise a warning."""

    fault: bool
    words: str


class PromptModel:
    """The text side of a bundle. ``scale``: what a cosine is multiplied with."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        """Raises BundleError where the bundle cannot be opened."""
        model = open_folder(bundle.folder, device)
        self.bundle = bundle
        self.scale = float(model.net.logit_scale.detach().exp())
        self._model = model
        self._texts = TextEmbedder(lambda: model, device, PromptCache(None, bundle.digest))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit embeddings, float32 (texts, width). Raises CatalogueError where one is too long."""
        return self._texts.embed(texts)

    def too_long(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Those that fill all that the model reads: they were most likely cut."""
        full = (self._model.tokenize(list(texts)) != self._model.pad).all(dim=1).tolist()
        return tuple(text for text, filled in zip(texts, full, strict=True) if filled)


def check_prompts(catalogue: FindingsCatalogue, model: PromptModel) -> tuple[Note, ...]:
    """The faults; where there is none, the warnings."""
    faults = tuple(
        Note(True, f"the prompt {text!r} is longer than this model reads") for text in model.too_long(catalogue.all_texts)
    )
    return faults or (*_untrained(catalogue, model.bundle), *_near_sides(catalogue, model), *_near_kinds(catalogue, model))


def _untrained(catalogue: FindingsCatalogue, bundle: Bundle) -> Iterator[Note]:
    trained = trained_for(bundle)
    if trained.findings is not None and (unknown := [key for key in catalogue.keys if key not in trained.findings]):
        yield Note(False, f"the model was not trained for {', '.join(unknown)}: always not assessable")
    if catalogue.scope.kinds and not asked_kinds(catalogue.scope.kinds, trained):
        yield Note(False, "the model knows no kinds of image to tell apart: the tags alone decide what is judged")


def _near_sides(catalogue: FindingsCatalogue, model: PromptModel) -> Iterator[Note]:
    trained = trained_for(model.bundle).findings
    for entry in catalogue.findings:
        if trained is not None and entry.key not in trained:
            continue
        positive, negative = (_direction(model, catalogue.texts(side)) for side in (entry.positive, entry.negative))
        near = float(positive @ negative)
        if near >= NEAR:
            most = 1 / (1 + math.exp(-model.scale * float(np.linalg.norm(positive - negative))))
            yield Note(
                False,
                f"finding {entry.key}: its positive and negative prompts are nearly one to this model (cosine {near:.3f}); no "
                f"picture can get a probability outside {1 - most:.2f} to {most:.2f}: word them further apart",
            )


def _near_kinds(catalogue: FindingsCatalogue, model: PromptModel) -> Iterator[Note]:
    rules = catalogue.scope.kinds
    kinds = asked_kinds(rules, trained_for(model.bundle))
    templates = rules.templates if rules else ()
    directions = {kind.key: _direction(model, in_templates(templates, kind.prompts)) for kind in kinds}
    for accepted in (kind for kind in kinds if kind.accept):
        for refused in (kind for kind in kinds if not kind.accept):
            near = float(directions[accepted.key] @ directions[refused.key])
            if near >= NEAR:
                yield Note(
                    False,
                    f"kinds {accepted.key} and {refused.key}: nearly one to this model (cosine {near:.3f}); it may refuse what "
                    "you accept: word them further apart",
                )


def _direction(model: PromptModel, texts: Sequence[str]) -> NDArray[np.float64]:
    mean = model.embed_texts(texts).astype(np.float64).mean(axis=0)
    unit: NDArray[np.float64] = mean / np.linalg.norm(mean)
    return unit
