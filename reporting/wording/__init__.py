"""The sentences of our documents: what a radiologist reads, in the language that the site chose (``DocumentOptions.language``).

A language is a module of phrases (``german``) and a file of tables (``de.toml``): names of concepts, and the reasons that a
reading gives. To add one, write both and name it in ``PHRASES``: the type asks for every phrase, and the tests for equal
placeholders, for every concept and reason, and for what documents still say in English.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import cache
from typing import Final

from reporting.errors import DocumentError
from reporting.wording.english import ENGLISH, PHANTOM_MARK
from reporting.wording.german import GERMAN
from reporting.wording.phrases import Phrases
from reporting.wording.reasons import translator
from reporting.wording.spanish import SPANISH
from reporting.wording.tables import Tables, read_tables
from reporting.wording.words import Words, capital, fill, sentence

__all__ = [
    "BURNED_IN",
    "DISCLAIMER",
    "LANGUAGES",
    "PHANTOM_MARK",
    "PHRASES",
    "WRITTEN_IN",
    "Phrases",
    "Words",
    "capital",
    "fill",
    "of",
    "sentence",
]

PHRASES: Final = {"en": ENGLISH, "de": GERMAN, "es": SPANISH}
LANGUAGES: Final = tuple(PHRASES)  # tags of RFC 5646
DISCLAIMER: Final = ENGLISH.disclaimer
WRITTEN_IN: Final = "en"  # what the models write
BURNED_IN: Final = ENGLISH.burned_in
_TAG: Final = re.compile(r"(?P<language>[a-z]{2})(-[A-Z]{2})?")
# Where these languages are written with a decimal point (Unicode CLDR, numbers/symbols/decimal)
_POINT: Final = frozenset(
    f"{language}-{country}"
    for language, countries in (("de", "CH LI"), ("es", "BZ CU DO GT HN MX NI PA PE PR SV US"))
    for country in countries.split()
)
_NO_SHARP_S: Final = frozenset({"de-CH", "de-LI"})  # where German is written without ß


def of(language: str) -> Words:
    """The words of a language by its tag (RFC 5646, with a country where numbers should follow it: ``es-MX``).

    Raises DocumentError where there is no such language.
    """
    found = _TAG.fullmatch(language)
    if not found or found["language"] not in LANGUAGES:
        offered = f"{', '.join(LANGUAGES)}, each also with a country (es-MX)"
        raise DocumentError(f"language {language!r} is not on offer; allowed: {offered}")
    return _words(language, found["language"])


@cache
def _words(tag: str, language: str) -> Words:
    phrases = replace(PHRASES[language], decimal=".") if tag in _POINT else PHRASES[language]
    tables = read_tables(language)
    if tag in _NO_SHARP_S:
        phrases = Phrases(**{one.name: _swiss(getattr(phrases, one.name)) for one in fields(Phrases)})
        tables = Tables(tables.names, {english: _swiss(other) for english, other in tables.reasons.items()})
    return Words(tag, phrases, tables.names, translator(tables.reasons, phrases.either, phrases.decimal))


def _swiss(text: str) -> str:
    return text.replace("ß", "ss")
