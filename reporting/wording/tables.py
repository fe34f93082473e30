"""The tables of a language: what its file (``de.toml``) says of concepts and reasons."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tables:
    """``names``: of concepts, by ``scheme value meaning`` in lower case. ``reasons``: by the English pattern."""

    names: Mapping[str, str]
    reasons: Mapping[str, str]


def read_tables(language: str) -> Tables:
    """The tables of a language; empty for English, which every name and reason is in already."""
    path = Path(__file__).with_name(f"{language}.toml")
    if language == "en":
        return Tables({}, {})
    found = tomllib.loads(path.read_text("utf-8"))
    return Tables({key.lower(): name for key, name in found["names"].items()}, found["reasons"])
