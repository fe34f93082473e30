"""Beam search as the reference does it (fairseq's SequenceGenerator), so that published settings give published text.

A sentence ends as soon as ``beam`` hypotheses ended, even if a longer one that is still alive would score better.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inference.drafting.hypotheses import Constraint, GenerationSettings, Hypothesis, TokenSet
from inference.drafting.model import Encoded, Ofa
from inference.drafting.search import Search

__all__ = ["Constraint", "GenerationSettings", "Hypothesis", "TokenSet", "generate"]


@torch.inference_mode()
def generate(
    model: Ofa,
    encoded: Encoded,
    settings: GenerationSettings,
    prefix: Tensor | None = None,
    constraint: Constraint | None = None,
) -> list[list[Hypothesis]]:
    """The ``beam`` best hypotheses per image, best first.

    ``prefix``: int64 (B, P) padded at the end with 1; each hypothesis begins with its row's prefix. ``constraint``: what may
    follow after it.
    """
    if not len(encoded.out):
        return []
    if model.recorder is not None and prefix is None and (constraint is None or isinstance(constraint, TokenSet)):
        return model.recorder.generate(model, encoded, settings, constraint)
    return Search(model, encoded, settings, prefix, constraint).run()
