"""Scanners that never were: studies drawn from distributions that are known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dicom_node.drift.observation import SKETCH_WIDTH, Observation


class Scanner:
    """``findings`` scores, heavy-tailed sketches with a few strong directions, drafts of about twenty words."""

    def __init__(self, seed: int, findings: int = 4) -> None:
        self._random = np.random.default_rng(seed)
        self._mix = self._random.normal(size=(SKETCH_WIDTH, SKETCH_WIDTH)) * np.exp(-np.arange(SKETCH_WIDTH) / 6)[:, None]
        self._findings = findings

    def studies(
        self, count: int, *, score: float = 0.0, look: float = 0.0, spread: float = 1.0, words: float = 20, unread: float = 0.01
    ) -> Iterator[Observation]:
        """``score``: added to every logit. ``look``: the sketches' shift, in standard deviations of their first direction."""
        draw = self._random
        for _ in range(count):
            logits = draw.normal(-2, 1.5, self._findings) + score
            sketch = (draw.standard_t(5, SKETCH_WIDTH) * spread) @ self._mix * 0.05 + look * 0.05 * self._mix[0]
            missing = draw.random(self._findings) < 0.03
            scores = {f"f{i}": None if missing[i] else float(1 / (1 + np.exp(-logit))) for i, logit in enumerate(logits)}
            yield Observation(
                scores,
                tuple(map(float, sketch)),
                int(draw.poisson(words)),
                bool(draw.random() < 0.05),
                bool(draw.random() < unread),
            )
