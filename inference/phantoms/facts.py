"""What a phantom's report says of its film, as data: a report names every finding drawn, so nothing else is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inference.phantoms.lesions import KEYS, SIZES

SIDES: Final = ("left", "right")
ZONES: Final = ("upper", "mid", "lower")
DEVICES: Final = ("pacemaker", "central line", "tracheal tube")
NAMES: Final = {key: key.replace("_", " ") for key in KEYS}


@dataclass(frozen=True, slots=True)
class Fact:
    """One finding of a film; a word is empty where the report does not say it."""

    key: str
    side: str = ""
    size: str = ""
    zone: str = ""
    kind: str = ""  # of a device

    @property
    def name(self) -> str:
        return self.kind or NAMES[self.key]


def facts_of(caption: str) -> tuple[Fact, ...]:
    """The findings that a phantom's report affirms, in its order."""
    return tuple(fact for sentence in sentences_of(caption) if (fact := _fact(sentence)))


def sentences_of(caption: str) -> tuple[str, ...]:
    """Each sentence with its full stop."""
    return tuple(f"{part.strip('. ')}." for part in caption.split(". "))


def _fact(sentence: str) -> Fact | None:
    words = sentence.rstrip(".").split()
    key = next((key for key, name in NAMES.items() if name in sentence), "")
    if not key or "no" in words:
        return None
    kind = next((device for device in DEVICES if device in sentence), "")
    return Fact(key, _one_of(SIDES, words), _one_of(SIZES, words), _one_of(ZONES, words), kind)


def _one_of(known: tuple[str, ...], words: list[str]) -> str:
    return next((word for word in words if word in known), "")
