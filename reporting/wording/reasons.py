"""Reasons that ``inference`` and the node give in English, said in another language.

A reading carries its reasons as plain English sentences, which its log and its record show as they are. Documents say them in
their own language by a table of patterns: ``it has {count} frames`` becomes ``sie hat {count} Bilder``. What stands in a
placeholder is translated in its turn, a decimal number gets the language's mark; what no pattern knows stays English.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Final

_DECIMAL: Final = re.compile(r"-?\d+\.\d+")
_JOINT: Final = "; "  # between reasons that were put together


@dataclass(frozen=True, slots=True)
class _Pattern:
    english: re.Pattern[str]
    other: str


def translator(reasons: Mapping[str, str], joint: str, decimal: str) -> Callable[[str], str]:
    """A function from an English reason to the same in the language of ``reasons``; ``joint`` is its "or" between things."""
    if not reasons:
        return str
    patterns = [_Pattern(_regex(english), other) for english, other in sorted(reasons.items(), key=lambda row: -_fixed(row[0]))]

    def translate(text: str) -> str:
        if known := _match(text, patterns, value):
            return known
        return _JOINT.join(_match(part, patterns, value) or part for part in text.split(_JOINT))

    def value(text: str) -> str:
        if _DECIMAL.fullmatch(text):
            return text.replace(".", decimal)
        if known := _match(text, patterns, value):
            return known
        parts = [_match(part, patterns, value) for part in text.split(" or ")]
        return joint.join(part for part in parts if part) if all(parts) else text

    return translate


def _match(text: str, patterns: list[_Pattern], value: Callable[[str], str]) -> str:
    for pattern in patterns:
        if found := pattern.english.fullmatch(text.rstrip(".")):
            return pattern.other.format(**{name: value(inner) for name, inner in found.groupdict().items()})
    return ""


def _regex(english: str) -> re.Pattern[str]:
    parts = (
        re.escape(text) + (f"(?P<{name}>(?:(?!{_JOINT}).)+?)" if name else "")
        for text, name, _, _ in Formatter().parse(english)
    )
    return re.compile("".join(parts), re.DOTALL)


def _fixed(english: str) -> int:
    """How much of a pattern is its own words: the most particular one is asked first."""
    return sum(len(text) for text, _, _, _ in Formatter().parse(english))
