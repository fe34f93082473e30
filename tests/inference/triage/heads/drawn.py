"""Labelled films as numbers: margins and embeddings whose truth is known because it is drawn from it."""

from __future__ import annotations

import numpy as np

from inference.triage.heads.calibrate import Labelled
from inference.triage.heads.finding import Films
from inference.triage.heads.measure import Bools, Floats, Ints
from inference.triage.heads.transform import sigmoid


def drawn_films(count: int, seed: int = 0, *, slope: float = 0.5, offset: float = -1.0, per_patient: int = 1) -> Films:
    """Margins that claim too much: the finding is present with probability sigmoid(slope · margin + offset)."""
    rng = np.random.default_rng(seed)
    margins: Floats = rng.normal(0, 4, count)
    labels: Bools = rng.random(count) < sigmoid(slope * margins + offset)
    patients: Ints = np.arange(count) // per_patient
    return Films(margins, sigmoid(margins), labels, patients, ("here",) * count)


def drawn_labelled(count: int, seed: int = 0, *, width: int = 12, per_patient: int = 1) -> Labelled:
    """Two findings on embeddings; the margins see them through noise, the second upside down, the third has no labels."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(0, 1, (count, width)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    truth = np.full((count, 3), -1, np.int8)
    for column in range(2):
        truth[:, column] = rng.random(count) < sigmoid(12 * embeddings[:, column] - 0.5)
    margins = np.stack(
        [embeddings[:, 0] * 10 + rng.normal(0, 4, count), -embeddings[:, 1] * 10, rng.normal(0, 1, count)], axis=1
    ).astype(np.float32)
    patients = np.arange(count) // per_patient
    return Labelled(("first", "second", "third"), truth, margins, embeddings, patients, ("here",) * count)
