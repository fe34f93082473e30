"""What a sentence of a report says of a finding, by words alone: exact, explainable rules in the manner of NegEx.

Terms are a catalogue's own displays, meanings and prompts. A denial ("no", "without", "no evidence of") holds up to the end of
its list; "but", "however" and their kind end it, and so does a comma where no "or" follows. A denial of one side or size ("no
left …", "no large …"), and anything in doubt ("possible", "history of"), neither affirms nor denies. After Chapman et al. 2001,
10.1006/jbin.2001.1029.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from inference.triage.catalogue import CatalogueEntry

_ARTICLE: Final = re.compile(r"^(?:a|an|the|any)\s+")
_BREAK: Final = re.compile(
    r"[;:]|\b(?:but|however|although|though|except|apart from|aside from|otherwise|while|whereas|yet)\b"
    r"|\band (?=(?:a|an|the|there|no|small|moderate|large|left|right)\b)"
)
# Longest first: "no change" must be seen before "no".
_NO_DENIAL: Final = re.compile(
    r"\b(?:no (?:\w+ )?(?:change|increase|decrease|difference)|without (?:\w+ )?(?:change|difficulty)|not only|not certain)\b"
)
_DOUBT: Final = re.compile(
    r"\b(?:possible|possibly|probable|probably|may|might|could|cannot|can not|suspected|suspicious|suspicion|questionable"
    r"|question|likely|unlikely|history|prior|previous|previously|rule out|evaluate for|differential|versus|vs)\b|\?"
)
_BEFORE: Final = re.compile(r"\b(?:no|not|without|denies|free of|absence of|negative for|neither|never|nor)\b")
_AFTER: Final = re.compile(
    r"\b(?:(?:is|are|was|were) (?:not|absent)|not (?:seen|present|visible)|absent|ruled out|resolved|excluded)\b"
)
_PART: Final = re.compile(
    r"\b(?:left|right|upper|mid|lower|apical|basal|bilateral|large|moderate|small|big|tension|new|other|further|additional"
    r"|residual|recurrent|second|acute|significant|focal)\b"
)


class Says(StrEnum):
    """What a sentence says of a finding."""

    AFFIRMS = "affirms"
    DENIES = "denies"
    MENTIONS = "mentions"  # neither: in doubt, in the past, or of one side or size only
    NOTHING = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """Words for one finding, lower case and without articles. ``normal``: words that mean it is absent."""

    present: tuple[str, ...]
    normal: tuple[str, ...]


def terms_of(entry: CatalogueEntry) -> Terms:
    """From an entry's display, meaning and prompts; a prompt of several parts gives each part."""
    names = (entry.display, entry.code.meaning, *_parts(entry.positive))
    normal = [text for text in _parts(entry.negative) if not _BEFORE.match(text)]
    return Terms(_clean(names), _clean(normal))


def says(sentence: str, terms: Terms) -> Says:
    """What one sentence says; where its parts disagree, that the finding is there, then that it is not."""
    found = {_part_says(part, terms) for part in _BREAK.split(_plain(sentence)) if part.strip()}
    return next((word for word in (Says.AFFIRMS, Says.DENIES, Says.MENTIONS) if word in found), Says.NOTHING)


def _part_says(part: str, terms: Terms) -> Says:
    places = [match for term in terms.present if (match := _word(term).search(part))]
    if not places:
        return Says.DENIES if any(_normal(term, part) for term in terms.normal) else Says.NOTHING
    if _DOUBT.search(part):
        return Says.MENTIONS
    return _denial(part, min(places, key=lambda match: (match.start(), -match.end())))


def _denial(part: str, term: re.Match[str]) -> Says:
    """Whether the mention of a term is denied, before it or behind it."""
    open_part = _NO_DENIAL.sub(lambda match: " " * len(match[0]), part)
    denials = [match for match in _BEFORE.finditer(open_part, 0, term.start()) if term.start() < _reach(open_part, match.end())]
    if not denials:
        return Says.DENIES if _AFTER.search(open_part, term.end()) else Says.AFFIRMS
    between = open_part[denials[-1].end() : term.end()]
    return Says.MENTIONS if _PART.search(between) or _PART.search(open_part, term.end()) else Says.DENIES


def _reach(part: str, start: int) -> int:
    """Where a denial that begins at ``start`` ends: at the first comma, or behind the last item of a list with "or"."""
    items = list(re.finditer(r"[^,]+", part[start:]))
    last = max((i for i, item in enumerate(items) if i and re.search(r"\b(?:or|nor)\b", item[0])), default=0)
    return start + (items[last].end() if items else 0)


def _normal(term: str, part: str) -> bool:
    """ "normal heart size", and "heart size is normal" as well; not where that is denied or in doubt."""
    head, _, rest = term.partition(" ")
    turned = rf"|\b{re.escape(rest)} (?:is |are |appears |appear )?{re.escape(head)}\b" if rest else ""
    match = re.search(rf"\b{re.escape(term)}\b{turned}", part)
    return bool(match) and not _DOUBT.search(part) and not _BEFORE.search(part[: match.start()]) if match else False


def _parts(prompts: Iterable[str]) -> list[str]:
    return [part.strip() for prompt in prompts for part in _plain(prompt).split(",")]


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("-", " ").split()).rstrip(".")


def _clean(texts: Iterable[str]) -> tuple[str, ...]:
    plain = (_ARTICLE.sub("", _plain(text)) for text in texts)
    return tuple(dict.fromkeys(text for text in plain if len(text) > 2))


def _word(term: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(term)}(?:s|es)?\b")
