"""Which images of a study are judged at all: by their tags, by what can be measured, and by what the model takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.bundles import Bundle
from inference.reading import Frame
from inference.triage.catalogue import FindingsCatalogue, Scope
from inference.triage.scope import KindJudge, Verdict, measured_refusal
from inference.triage.trained import trained_for

_SMALLEST: Final = 32  # pixels of a side; two patches of a ViT-B/16 before any enlargement


class Embedder(Protocol):
    """What is needed of ``contrastive.Triage``."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def scale(self) -> float: ...

    def embed(self, frames: Sequence[Frame]) -> NDArray[np.float32]: ...

    def direction(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """``verdicts``: one for each image, in order. ``kept``: the images to judge; the rows of ``vectors`` are theirs.

    ``vectors``: unit embeddings, float32 (kept, width).
    """

    verdicts: tuple[tuple[Frame, Verdict], ...]
    kept: tuple[Frame, ...]
    vectors: NDArray[np.float32]

    @property
    def refused(self) -> tuple[tuple[Frame, str], ...]:
        return tuple((frame, verdict.refusal) for frame, verdict in self.verdicts if verdict.refusal)


class Gate:
    """One catalogue's scope with one model. The model sees only what tags and measures let through, and sees it once."""

    def __init__(self, catalogue: FindingsCatalogue, triage: Embedder) -> None:
        """Embeds the prompts of the kinds. Raises CatalogueError where one is too long for the model, BundleError."""
        self._scope = catalogue.scope
        self._triage = triage
        self.judge = KindJudge(catalogue.scope, trained_for(triage.bundle), triage.direction, triage.scale)

    def look(self, frames: Sequence[Frame]) -> Looked:
        """What of ``frames`` is judged, and the plain reason why the others are not."""
        return self.look_each([frames])[0]

    def look_each(self, studies: Sequence[Sequence[Frame]]) -> list[Looked]:
        """``look`` at each study by itself, with the images of all of them in one pass of the model."""
        told = [[refusal(frame, self._scope) for frame in frames] for frames in studies]
        shown = [
            [frame for frame, reason in zip(frames, reasons, strict=True) if not reason]
            for frames, reasons in zip(studies, told, strict=True)
        ]
        together = [frame for frames in shown for frame in frames]
        vectors = self._triage.embed(together) if together else np.empty((0, 0), np.float32)
        ends = np.cumsum([len(frames) for frames in shown])[:-1]
        return [self._judged(*study) for study in zip(studies, told, shown, np.split(vectors, ends), strict=True)]

    def _judged(
        self, frames: Sequence[Frame], told: Sequence[str], shown: Sequence[Frame], vectors: NDArray[np.float32]
    ) -> Looked:
        seen = self.judge.verdicts(shown, vectors)
        rest = iter(seen)
        verdicts = tuple(Verdict(refusal=reason) if reason else next(rest) for reason in told)
        kept = [index for index, verdict in enumerate(seen) if not verdict.refusal]
        return Looked(tuple(zip(frames, verdicts, strict=True)), tuple(shown[index] for index in kept), vectors[kept])


def refusal(frame: Frame, scope: Scope) -> str:
    """Why an image is not judged, as far as that can be told without a model; empty where it may be."""
    return scope.refuse(frame) or unfit(frame) or measured_refusal(frame, scope)


def unfit(frame: Frame) -> str:
    """Why nothing can be seen on a picture, whatever its tags say; empty where something may be."""
    rows, columns = frame.pixels.shape[:2]
    if min(rows, columns) < _SMALLEST:
        return f"the image of {columns}×{rows} pixels is too small to be read"
    return "the image is of one grey all over" if frame.pixels.min() == frame.pixels.max() else ""
