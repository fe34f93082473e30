"""The lexical forms of FHIR R4's primitive types in JSON (R4 2.24.0.1, 2.6.2), one check for each."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Final

_YEAR: Final = r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)"
_DAY: Final = r"(0[1-9]|1[0-2])-(0[1-9]|[1-2][0-9]|3[0-1])"
_CLOCK: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
_ZONE: Final = r"(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_TIME: Final = re.compile(_CLOCK)
_INSTANT: Final = re.compile(f"{_YEAR}-{_DAY}T{_CLOCK}{_ZONE}")
_DATE: Final = re.compile(f"{_YEAR}(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1]))?)?")
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_BLANK: Final = re.compile(r"\s")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_UUID: Final = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_OID: Final = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+")
_LONGEST: Final = 1024 * 1024  # characters of a string
_INT: Final = 2**31
_DAY_LENGTH: Final = len("2026-03-04")


def is_date(text: str) -> bool:
    """A year, a month or a day that the calendar has."""
    return _DATE.fullmatch(text) is not None and _in_calendar(text)


def is_instant(text: str) -> bool:
    """A day and a time to the second with its zone."""
    return _INSTANT.fullmatch(text) is not None and _in_calendar(text[:_DAY_LENGTH])


def is_uuid(text: str) -> bool:
    """``urn:uuid:`` and a UUID in lower case (R4 2.24.0.1, RFC 4122)."""
    return _UUID.fullmatch(text) is not None


def is_oid(text: str) -> bool:
    """``urn:oid:`` and an OID without leading zeros."""
    return _OID.fullmatch(text) is not None


def decoded(text: str) -> bytes | None:
    """The bytes of a base64Binary, which may hold white space; None where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        pass
    try:
        return base64.b64decode(_BLANK.sub("", text), validate=True)
    except (binascii.Error, ValueError):
        return None


def moment(text: str) -> tuple[datetime, int] | None:
    """A date, dateTime or instant as the time at which it begins, and how many of its parts are given (1: year .. 4: time).

    None where it is none. A leap second counts as the second before it.
    """
    if is_date(text):
        parts = [int(part) for part in text.split("-")]
        year, month, day = [*parts, 1, 1][:3]
        return datetime(year, month, day), len(parts)
    if is_instant(text):
        return datetime.fromisoformat(text.replace(":60", ":59").replace("Z", "+00:00")), 4
    return None


def _in_calendar(text: str) -> bool:
    if len(text) < _DAY_LENGTH:
        return True
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _text(text: str) -> bool:
    return len(text) <= _LONGEST and (text.isprintable() or not _CONTROL.search(text))


def _uri(text: str) -> bool:
    """Without blanks; the two kinds of URN that FHIR defines in their form."""
    return text.split() == [text] and (text[:9] != "urn:uuid:" or is_uuid(text))


def _code(text: str) -> bool:
    """Words with single blanks between them, and none around them."""
    return len(" ".join(text.split())) == len(text)


def _integer(low: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value < _INT


# Type → the JSON types that it may have, whether a value of these is in form, and the form in words
FORMS: Final[Mapping[str, tuple[tuple[type, ...], Callable[[Any], bool], str]]] = {
    "base64Binary": ((str,), lambda text: decoded(text) is not None, "base64"),
    "boolean": ((bool,), lambda _: True, "true or false"),
    "canonical": ((str,), _uri, "a URI"),
    "code": ((str,), _code, "a code: words with single blanks between them"),
    "date": ((str,), is_date, "a date of the calendar: YYYY, YYYY-MM or YYYY-MM-DD"),
    "dateTime": ((str,), lambda text: is_date(text) or is_instant(text), "a date, or a date and time with a zone"),
    "decimal": ((int, float), lambda _: True, "a number"),
    "id": ((str,), lambda text: _ID.fullmatch(text) is not None, "1 to 64 letters, digits, hyphens and dots"),
    "instant": ((str,), is_instant, "a date and time to the second with a zone"),
    "integer": ((int, float), _integer(-_INT), "a whole number of 32 bits"),
    "markdown": ((str,), _text, "text without control characters"),
    "oid": ((str,), is_oid, "urn:oid: and an OID"),
    "positiveInt": ((int, float), _integer(1), "a whole number from 1 on"),
    "string": ((str,), _text, "text without control characters"),
    "time": ((str,), lambda text: _TIME.fullmatch(text) is not None, "hh:mm:ss"),
    "unsignedInt": ((int, float), _integer(0), "a whole number from 0 on"),
    "uri": ((str,), _uri, "a URI"),
    "url": ((str,), _uri, "a URL"),
    "uuid": ((str,), is_uuid, "urn:uuid: and a UUID in lower case"),
    "xhtml": ((str,), _text, "XHTML"),
}
