"""What a program takes: the media ranges of `Accept`, or of the query parameter `accept` (PS3.18 8.3.3.1, 8.7.5; RFC 9110)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from fastapi import Request

ANY: Final = "*/*"
_PART: Final = re.compile(r"[^,\"]*(?:\"[^\"]*\"[^,\"]*)*")
_PARAMETER: Final = re.compile(r';\s*([\w-]+)\s*=\s*("[^"]*"|[^;\s]*)')
_RELATED: Final = frozenset({"multipart/related", "multipart/*"})


@dataclass(frozen=True, slots=True)
class Range:
    """One media range. ``kind``: of each part where it is ``multipart``. ``syntaxes``: transfer syntaxes named, or "*"."""

    kind: str
    multipart: bool = False
    syntaxes: frozenset[str] = frozenset()
    weight: float = 1.0

    def takes(self, kind: str) -> bool:
        return self.kind in (ANY, kind, f"{kind.partition('/')[0]}/*")

    def takes_syntax(self, uid: str, *, unnamed: bool = True) -> bool:
        """``unnamed``: what holds where none is named."""
        return bool(self.syntaxes & {"*", uid}) if self.syntaxes else unnamed


def ranges(request: Request) -> list[Range]:
    """The heaviest first, those of weight 0 left out; `*/*` where nothing is told."""
    told = request.query_params.get("accept", "") or request.headers.get("accept", "") or ANY
    found = [_range(one.strip().lower()) for one in _PART.findall(told) if one.strip()]
    return sorted((one for one in found if one.weight > 0), key=lambda one: -one.weight)


def _range(text: str) -> Range:
    kind = text.partition(";")[0].strip()
    named = [(name, value.strip('"')) for name, value in _PARAMETER.findall(text)]
    syntaxes = frozenset(value for name, value in named if name == "transfer-syntax" and value)
    weight = _weight(next((value for name, value in named if name == "q"), "1"))
    if kind in _RELATED:
        inner = next((value for name, value in named if name == "type"), ANY)
        return Range(inner or ANY, True, syntaxes, weight)
    return Range(kind, False, syntaxes, weight)


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
