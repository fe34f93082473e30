"""The words of a phantom's report: lower case, a small vocabulary, one sentence for each thing seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from inference.phantoms.lesions import Lesion

_PRESENT: Final = {
    "pleural_effusion": ("{size} {side} pleural effusion.", "there is a {size} {side} pleural effusion."),
    "pneumothorax": ("{size} {side} pneumothorax.", "there is a {size} {side} pneumothorax."),
    "consolidation": ("{side} {zone} zone consolidation.", "there is consolidation in the {side} {zone} zone."),
    "cardiomegaly": ("the heart is enlarged, cardiomegaly.", "there is cardiomegaly."),
    "nodule": ("{side} {zone} zone nodule.", "there is a nodule in the {side} {zone} zone."),
    "pacemaker": ("{side} pacemaker device in place.", "there is a {side} pacemaker device."),
    "line": ("{side} central line device in place.", "there is a {side} central line device."),
    "tube": ("tracheal tube device in place.", "there is a tracheal tube device."),
}
_ABSENT: Final = ("no pleural effusion.", "no pneumothorax.")
_ABSENT_KEYS: Final = ("pleural_effusion", "pneumothorax")
_NORMAL: Final = ("the lungs are clear. the heart size is normal.", "clear lungs. normal heart size.")


def write_caption(lesions: Sequence[Lesion], rng: np.random.Generator) -> str:
    """What is there, in a fixed order, then one thing that is not."""
    present = {lesion.key for lesion in lesions}
    absent = [words for key, words in zip(_ABSENT_KEYS, _ABSENT, strict=True) if key not in present]
    if not lesions:
        return f"{rng.choice(_NORMAL)} {' '.join(absent)}"
    seen = [_sentence(lesion, rng) for lesion in lesions]
    return " ".join([*seen, *absent[:1]])


def _sentence(lesion: Lesion, rng: np.random.Generator) -> str:
    words = _PRESENT[lesion.size if lesion.key == "device" else lesion.key]
    return str(rng.choice(words)).format(size=lesion.size, side=lesion.side, zone=lesion.zone)
