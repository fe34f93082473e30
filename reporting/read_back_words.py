"""What our reports say in words only, taken out of the phrases that ``reporting.wording`` put it into."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Final

from pydicom import Dataset

from inference.reading import Finding
from reporting import codes
from reporting.content import concept, is_code
from reporting.errors import DocumentError
from reporting.wording import Words, capital, fill, of

_PLACE: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A report's language, with which its phrases are taken apart."""

    words: Words

    @property
    def language(self) -> str:
        return self.words.language

    def parts(self, phrase: str, line: str, **known: str) -> dict[str, str] | None:
        """What fills the places of the named phrase in ``line``; None where the line is of another form.

        ``known``: places whose filling is known. A phrase may stand with a capital, as a sentence.
        """
        template = self._phrase(phrase)
        matches = (_pattern(form, known).fullmatch(line) for form in (template, capital(template)))
        return next((found.groupdict() for found in matches if found), None)

    def reason(self, phrase: str, line: str, **known: str) -> str:
        """The reason in a line of the named phrase, without its full stop; empty where none was given."""
        found = self.parts(phrase, line, **known)
        said = found["reason"].removesuffix(".") if found else ""
        return "" if said == self.words.phrases.no_reason else said

    def named(self, finding: Finding) -> str:
        """A finding as lists of names show it."""
        answer = self.words.answer(finding.decision)
        return fill(self.words.phrases.named_finding, name=self.words.name(finding.code), answer=answer)

    def phantom(self, ds: Dataset) -> bool:
        """Whether the report says that phantom models made it."""
        said = _pattern(self.words.phrases.phantom_series, {})
        return said.fullmatch(str(ds.get("SeriesDescription", ""))) is not None

    def _phrase(self, name: str) -> str:
        if name not in {field.name for field in fields(self.words.phrases)}:
            raise DocumentError(f"there is no phrase {name!r}")
        return str(getattr(self.words.phrases, name))


def spoken(ds: Dataset) -> Spoken:
    """The language that the report names (PS3.16 TID 1204). Raises DocumentError where it names none that is known here."""
    named = [concept(item, "ConceptCodeSequence") for item in ds.ContentSequence if is_code(concept(item), codes.LANGUAGE)]
    if not named or named[0] is None:
        raise DocumentError("the report does not name its language")
    return Spoken(of(named[0].value))


def listed(text: str, between: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """The keys whose words (``known``) stand in ``text``, in its order, with ``between`` between them."""
    found: list[str] = []
    while text:
        fits = [(len(said), key) for key, said in known.items() if (text + between).startswith(said + between)]
        if not fits:
            break
        length, key = max(fits, key=itemgetter(0))
        found.append(key)
        text = text[length + len(between) :]
    return tuple(found)


def _pattern(template: str, known: Mapping[str, str]) -> re.Pattern[str]:
    """The form of a phrase: its words and what is known as they are, its other places as named groups."""
    pieces = [
        re.escape(known.get(piece, ""))
        if piece in known and number % 2
        else f"(?P<{piece.lower()}>.+?)"
        if number % 2
        else re.escape(piece)
        for number, piece in enumerate(_PLACE.split(template))
    ]
    return re.compile("".join(pieces), re.DOTALL)
