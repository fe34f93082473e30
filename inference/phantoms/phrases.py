"""The phrases that the phantom's text tower learns besides the catalogue's own: what a person might type to find a film.

Every phrase comes with its meaning: how far it lies along each of ``AXES``. Sides are the patient's: +1 left, -1 right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.phantoms.kinds import KINDS
from inference.phantoms.lesions import KEYS

SIDED: Final = ("pleural_effusion", "pneumothorax", "consolidation", "nodule")
DEVICES: Final = ("pacemaker", "line", "tube")
AXES: Final = ("all", *KEYS, *(f"{key} side" for key in SIDED), *DEVICES, *KINDS)
NAMES: Final = MappingProxyType(
    {
        "pleural_effusion": ("pleural effusion", "effusion", "pleural fluid"),
        "pneumothorax": ("pneumothorax", "collapsed lung", "free pleural air"),
        "consolidation": ("consolidation", "airspace opacity", "lung consolidation"),
        "cardiomegaly": ("cardiomegaly", "enlarged heart", "large heart", "big heart", "enlarged cardiac silhouette"),
        "nodule": ("nodule", "lung nodule", "pulmonary nodule", "round opacity"),
        "device": ("device", "medical device", "support device", "implant"),
        "pacemaker": ("pacemaker", "cardiac pacemaker", "pacemaker with its lead"),
        "line": ("central line", "central venous catheter", "venous catheter"),
        "tube": ("tracheal tube", "endotracheal tube", "breathing tube"),
    }
)
_FILMS: Final = (
    "{}",
    "a film with {}",
    "film showing {}",
    "chest x-ray with {}",
    "a chest radiograph showing {}",
    "there is {}",
)
_MORE: Final = ("a film of a patient with {}", "find films with {}", "images with {}", "x-ray of {}", "{} on the film")
_WITHOUT: Final = ("no {}", "without {}", "a film without {}", "there is no {}", "no evidence of {}", "no sign of {}")
_NORMAL: Final = (
    "normal",
    "a normal film",
    "a normal chest x-ray",
    "normal chest radiograph",
    "nothing abnormal",
    "a healthy chest",
)
_CLEAR: Final = ("clear lungs", "the lungs are clear", "normal lungs")
_SIZES: Final = ("", "", "small ", "moderate ", "large ")
_ARTICLES: Final = ("", "", "a ", "the ")
_PATTERNS: Final = {"pleural_effusion": "effusion", "line": "central line", "tube": "tracheal tube"}
_SIDE_WEIGHT: Final = 0.7
_SHARED: Final = 0.2  # little: what all sentences share says nothing of a film, and would rank films by chance


@dataclass(frozen=True, slots=True)
class Phrases:
    """``meanings``: float32 (texts, len(AXES)), not yet of unit length."""

    texts: tuple[str, ...]
    meanings: NDArray[np.float32]


def meaning_of(along: dict[str, float]) -> NDArray[np.float32]:
    row = np.zeros(len(AXES), dtype=np.float32)
    for name, value in {"all": _SHARED, **along}.items():
        row[AXES.index(name)] += value
    return row


def draw_phrases(rng: np.random.Generator, count: int) -> Phrases:
    """``count`` phrases: one finding with or without a side, two findings, none, or a finding denied."""
    drawn = [_MAKERS[int(rng.choice(len(_MAKERS), p=_SHARES))](rng) for _ in range(count)]
    texts, along = zip(*drawn, strict=True)
    return Phrases(tuple(texts), np.stack([meaning_of(item) for item in along]))


def side_phrases(key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Phrases of a finding on the right, and of the same on the left."""
    sides = [tuple(film.format(f"{side} {name}") for name in NAMES[key] for film in _FILMS[:3]) for side in ("right", "left")]
    return sides[0], sides[1]


def device_phrases() -> tuple[tuple[str, ...], ...]:
    """Phrases of each of ``DEVICES``."""
    return tuple(tuple(film.format(name) for name in NAMES[kind] for film in _FILMS[:3]) for kind in DEVICES)


def details(caption: str) -> tuple[list[float], list[float]]:
    """What a phantom's caption says of the side of each of ``SIDED`` (+1 left, -1 right, 0 none) and of ``DEVICES`` (1, 0)."""
    sentences = [sentence for sentence in caption.split(".") if not re.search(r"\bno\b", sentence)]
    sides = [_side(sentences, _PATTERNS.get(key, key)) for key in SIDED]
    return sides, [float(any(_PATTERNS.get(kind, kind) in sentence for sentence in sentences)) for kind in DEVICES]


def caption_meaning(labels: NDArray[np.bool_], caption: str) -> NDArray[np.float32]:
    """Everything that a caption says, one half of each axis. ``labels``: bool (len(KEYS),)."""
    sides, devices = details(caption)
    along = {key: 0.5 if label else -0.5 for key, label in zip(KEYS, labels, strict=True)}
    along |= {f"{key} side": 0.5 * _SIDE_WEIGHT * side for key, side in zip(SIDED, sides, strict=True)}
    return meaning_of(along | {kind: 0.35 * here for kind, here in zip(DEVICES, devices, strict=True)})


def _side(sentences: Sequence[str], word: str) -> float:
    said = " ".join(sentence for sentence in sentences if word in sentence)
    return float("left" in said) - float("right" in said)


def _named(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    """A finding in words, with an article, a size and a side where it has one, and its meaning."""
    key = str(rng.choice([*KEYS, *DEVICES]))
    name = str(rng.choice(NAMES[key]))
    along = {key: 1.0} if key in KEYS else {"device": 1.0, key: _SIDE_WEIGHT}
    size = str(rng.choice(_SIZES)) if key in SIDED else ""
    if key in SIDED and rng.random() < 0.6:
        side = str(rng.choice(["left", "right"]))
        along[f"{key} side"] = _SIDE_WEIGHT if side == "left" else -_SIDE_WEIGHT
        forms = (
            f"{side} {name}",
            f"{side} {name}",
            f"{side} sided {name}",
            f"{name} on the {side}",
            f"{name} in the {side} lung",
        )
        name = str(rng.choice(forms))
    elif key in SIDED and rng.random() < 0.1:
        name = f"{name} in the lungs"
    article = str(rng.choice(_ARTICLES))
    return _an(f"{article}{size}{name}"), along


def _an(words: str) -> str:
    return re.sub(r"^a (?=[aeiou])", "an ", words)


def _one(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    words, along = _named(rng)
    return str(rng.choice([*_FILMS, *_MORE])).format(words), along


def _two(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    (first, along), (second, more) = _named(rng), _named(rng)
    if set(along) & set(more):
        return _one(rng)
    return str(rng.choice([*_FILMS, *_MORE])).format(f"{first} and {second}"), along | more


def _denied(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    key = str(rng.choice(KEYS))
    return str(rng.choice(_WITHOUT)).format(rng.choice(NAMES[key])), {key: -1.0}


def _normal(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    if rng.random() < 0.3:
        return str(rng.choice(_CLEAR)), dict.fromkeys(("consolidation", "nodule"), -0.5)
    return str(rng.choice(_NORMAL)), dict.fromkeys(KEYS, -0.5)


_MAKERS: Final = (_one, _two, _denied, _normal)
_SHARES: Final = (0.6, 0.15, 0.18, 0.07)
