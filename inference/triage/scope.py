"""Is a picture what its tags say? Judged by the tags and the model together, before any finding.

The tags are judged by ``catalogue.Scope``. The model's part is a softmax over kinds of image at the model's own logit scale
(Radford 2021, 3.1.2): a hand sent as a chest looks like a hand, whatever its tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.reading import Frame
from inference.triage.catalogue import Kind, KindsScope, Scope, in_templates
from inference.triage.film_measures import wrongly_shown
from inference.triage.trained import Trained

_MOST_NAMED: Final = 3  # accepted kinds in a sentence
Direction = Callable[[Sequence[str]], NDArray[np.float32]]  # texts to one unit vector (width,)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model takes a picture for.

    ``kind``: the most probable kind, None where none was asked. ``outside``: probability that it is none of the accepted
    kinds, 0..1. ``refusal``: the plain reason why it is not judged, or nothing where it is.
    """

    kind: Kind | None = None
    probability: float = 0.0
    outside: float = 0.0
    refusal: str = ""


class KindJudge:
    """The kinds of image that one model is asked of, as directions."""

    def __init__(self, scope: Scope, trained: Trained, direction: Direction, scale: float) -> None:
        """``direction`` embeds the texts of a kind; ``scale``: exp of the model's logit scale."""
        self._scope = scope
        self._scale = scale
        self.kinds = asked_kinds(scope.kinds, trained)
        templates = scope.kinds.templates if scope.kinds else ()
        self._directions = [direction(in_templates(templates, kind.prompts)) for kind in self.kinds]

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of each kind for unit embeddings (images, width): float64 (images, kinds), rows sum to 1."""
        return softmax(self._scale * vectors.astype(np.float64) @ np.stack(self._directions).astype(np.float64).T)

    def verdicts(self, frames: Sequence[Frame], vectors: NDArray[np.float32]) -> tuple[Verdict, ...]:
        """One verdict for each frame, whose unit embeddings are the rows of ``vectors``."""
        rules = self._scope.kinds
        if rules is None or not self.kinds or not frames:
            return tuple(Verdict() for _ in frames)
        shares = self.probabilities(vectors)
        if rules.by_series:
            shares = _mean_of_series(shares, [frame.source.series_instance_uid for frame in frames])
        return tuple(self._verdict(frame, row, rules) for frame, row in zip(frames, shares, strict=True))

    def _verdict(self, frame: Frame, shares: NDArray[np.float64], rules: KindsScope) -> Verdict:
        if not np.isfinite(shares).all():  # the findings will have no number either, and say so
            return Verdict()
        best = int(shares.argmax())
        refused = np.array([not kind.accept for kind in self.kinds])
        outside = float(shares[refused].sum())
        limit = rules.refuse_stated if self._scope.stated(frame) else rules.refuse_unstated
        if outside < limit or self.kinds[best].accept:
            return Verdict(self.kinds[best], float(shares[best]), outside)
        reason = self._reason(frame, self.kinds[best], float(shares[best]))
        return Verdict(self.kinds[best], float(shares[best]), outside, reason)

    def _reason(self, frame: Frame, kind: Kind, share: float) -> str:
        accepted = [kind.display for kind in self.kinds if kind.accept]
        expected = " or ".join(accepted) if len(accepted) <= _MOST_NAMED else "what the catalogue is made for"
        looks = f"the picture looks like {kind.display} (probability {share:.2f}), not like {expected}"
        return f"{looks}; {_tags(frame, self._scope)}"


def asked_kinds(rules: KindsScope | None, trained: Trained) -> tuple[Kind, ...]:
    """The kinds to ask of a model: those it was trained for; of a model trained for none in particular, the zero-shot ones.

    Empty where no accepted or no refused kind is left: there is nothing to tell apart.
    """
    if rules is None:
        return ()
    asked = tuple(kind for kind in rules.kinds if (kind.zero_shot if trained.kinds is None else kind.key in trained.kinds))
    return asked if len({kind.accept for kind in asked}) == 2 else ()


def measured_refusal(frame: Frame, scope: Scope) -> str:
    """Why the grey values alone rule the picture out, without any model; empty where they do not."""
    shown = wrongly_shown(frame.pixels) if scope.measured_chest else ""
    return f"the picture looks like {shown}; {_tags(frame, scope)}" if shown else ""


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return shares


def _mean_of_series(shares: NDArray[np.float64], series: Sequence[str]) -> NDArray[np.float64]:
    """Each row replaced by the mean row of its series: one slice at the vertex does not look like a head by itself."""
    named = np.array(series, dtype=object)
    means = np.empty_like(shares)
    for name in dict.fromkeys(series):
        means[named == name] = shares[named == name].mean(axis=0)
    return means


def _tags(frame: Frame, scope: Scope) -> str:
    """What the tags say of a picture, and what they leave out of what the catalogue asks for."""
    said = " ".join(filter(None, (frame.modality, frame.body_part, frame.view)))
    wanted = (("body part", frame.body_part, scope.body_parts), ("view", frame.view, scope.views))
    unsaid = " and ".join(f"no {name}" for name, value, covered in wanted if covered and not value)
    return f"its tags say {said}" + (f" and name {unsaid}" if unsaid else "")
