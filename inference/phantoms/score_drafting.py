"""How well a drafter reports films that no training has seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from inference.drafting.drafter import Drafter
from inference.phantoms.draw import Phantom, draw_phantom
from inference.phantoms.lesions import KEYS
from inference.reading import Frame, FrameSource

FIRST_UNSEEN_SEED: Final = 500_000  # training begins at 1,000,000
WORDS: Final = {key: key.replace("_", " ") for key in KEYS}
_DENIALS: Final = {"no", "not", "without"}
_SIDES: Final = ("left", "right")
_FILMS_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class DraftScore:
    """Rates 0..1 over ``films`` drawn films; a rate over no film is 1 (named) or 0 (false mention).

    ``named``: films with findings whose draft names each of them. ``named_by_finding``: films with it that name it.
    ``false_mentions``: films without it that name it. ``normal_kept``: films without findings whose draft names none.
    ``sides_right``: of the findings named that have a side, those named on the side where they were drawn.
    """

    films: int
    named: float
    named_by_finding: dict[str, float]
    false_mentions: dict[str, float]
    normal_kept: float
    sides_right: float


def named_findings(sentences: Iterable[str]) -> dict[str, str]:
    """The findings that sentences say are there, each with its side ("left", "right" or "").

    A sentence that denies ("no pneumothorax.") names nothing.
    """
    named: dict[str, str] = {}
    for sentence in (text.lower() for text in sentences):
        words = sentence.split()
        if not _DENIALS & set(words):
            side = next((word for word in words if word in _SIDES), "")
            named |= {key: side for key, name in WORDS.items() if name in sentence}
    return named


def score_drafter(drafter: Drafter, seeds: Sequence[int], *, size: int = 512) -> DraftScore:
    """Draw the films of ``seeds`` at ``size`` pixels, draft them, compare what is named with what was drawn."""
    pairs: list[tuple[frozenset[str], frozenset[str]]] = []
    sides: list[bool] = []
    for start in range(0, len(seeds), _FILMS_AT_ONCE):
        films = [draw_phantom(seed, size=size) for seed in seeds[start : start + _FILMS_AT_ONCE]]
        drafts = drafter.draft([_frame(film) for film in films])
        for film, draft in zip(films, drafts, strict=True):
            drawn = named_findings(film.caption.split(". "))
            named = named_findings(sentence.text for sentence in draft.sentences)
            pairs.append((film.findings, frozenset(named)))
            sides += [named[key] == side for key, side in drawn.items() if side and key in named]
    return DraftScore(
        films=len(pairs),
        named=_rate((drawn <= named for drawn, named in pairs if drawn), empty=1.0),
        named_by_finding={key: _rate((key in n for d, n in pairs if key in d), empty=1.0) for key in KEYS},
        false_mentions={key: _rate((key in n for d, n in pairs if key not in d), empty=0.0) for key in KEYS},
        normal_kept=_rate((not named for drawn, named in pairs if not drawn), empty=1.0),
        sides_right=_rate(sides, empty=1.0),
    )


def _rate(hits: Iterable[bool], *, empty: float) -> float:
    found = list(hits)
    return sum(found) / len(found) if found else empty


def _frame(film: Phantom) -> Frame:
    return Frame(film.pixels, FrameSource("2.25.1", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.2"), "DX", "CHEST", "PA")
