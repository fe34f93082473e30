"""Foreign header values made fit to be written again: decoded, legal for their VR, never an exception.

Headers come from every maker's equipment of thirty years. What cannot be read counts as absent; what is too long is cut;
only identities (Patient ID, Study and SOP Instance UIDs) are kept to the letter, since a repaired identity is another one.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import cache
from typing import Any, Final

from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

# PS3.5 table 6.2-1, in characters
LIMITS: Final = {"SH": 16, "CS": 16, "LO": 64, "AE": 16, "AS": 4, "UI": 64, "ST": 1024, "LT": 10240, "DS": 16, "IS": 12}
_IDENTITIES: Final = frozenset({"PatientID", "StudyInstanceUID", "AccessionNumber"})
_READ_ERRORS: Final = (ValueError, TypeError, KeyError, AttributeError, LookupError, NotImplementedError, OSError, struct.error)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_UID: Final = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_TIME: Final = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_AGE: Final = re.compile(r"\d{3}[DWMY]")
_INTEGER: Final = re.compile(r"[+-]?\d{1,11}")
_DECIMAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@contextmanager
def quiet_headers() -> Iterator[None]:
    """Silence pydicom's warnings about foreign values while headers are read: they quote the values, which are patient data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def raw(header: Dataset, keyword: str) -> Any:
    """The element's value as pydicom gives it, or None where it is absent, empty or cannot be read."""
    try:
        value = header.get(keyword)
    except _READ_ERRORS:
        return None
    return None if value is None or value == "" else value


def items(header: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; none where it is absent or no sequence."""
    value = raw(header, keyword) if header.get_item(_tag(keyword)) is not None else None
    if value is None or isinstance(value, str | bytes):
        return ()
    try:
        return tuple(item for item in value if isinstance(item, Dataset))
    except _READ_ERRORS:
        return ()


def text(header: Dataset, keyword: str) -> str:
    """The element as legal text of its VR; empty where absent or beyond repair. Of several values the first."""
    values = _decoded(header, keyword)
    if keyword in _IDENTITIES:
        return identity("\\".join(values))
    return legal(values[0], _vr(keyword)) if values else ""


def plain(header: Dataset, keyword: str) -> str:
    """``text`` of a UID, code string or number, cheap enough for the headers of thousands of instances."""
    found = header.get_item(_tag(keyword))
    value = None if found is None else found.value
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").rstrip("\0 ")  # not converted yet: these value representations are ASCII
    if isinstance(value, str) and "\\" not in value and "\ufffd" not in value:
        return legal(value, _vr(keyword))
    return "" if found is None else text(header, keyword)


def texts(header: Dataset, keyword: str) -> list[str]:
    """All values of the element, each as legal text; the empty ones left out."""
    legals = (legal(value, _vr(keyword)) for value in _decoded(header, keyword))
    return [value for value in legals if value]


def identity(value: str) -> str:
    """``value`` to the letter, but for outer spaces and what no file could hold."""
    return _CONTROL.sub("", encodable(value)).strip()


def legal(value: str, vr: str) -> str:
    """``value`` as VR allows it: cut, stripped, or empty where it has no legal form."""
    match vr:
        case "DA":
            return _date(value)
        case "TM":
            return _matching(_TIME, value.replace(":", ""))
        case "PN":
            return person_name(value)
        case "CS":
            return one_line(value.upper(), 16) if re.fullmatch(r"[A-Za-z0-9 _]{1,16}", value.strip()) else ""
        case "AS":
            return _matching(_AGE, value)
        case "IS":
            return _matching(_INTEGER, value)
        case "DS":
            return _matching(_DECIMAL, value)[:16] if len(value.strip()) <= LIMITS["DS"] else ""
        case "UI":
            return one_line(value)
        case "ST" | "LT" | "UT":
            return many_lines(value, LIMITS.get(vr))
        case _:
            return one_line(value, LIMITS.get(vr))


def one_line(value: str, limit: int | None = None) -> str:
    """No control characters, no backslash (it divides values), no outer spaces, at most ``limit`` characters."""
    return _CONTROL.sub(" ", encodable(value).replace("\\", "/")).strip()[:limit].rstrip()


def many_lines(value: str, limit: int | None = None) -> str:
    return _CONTROL_BUT_LINES.sub(" ", encodable(value)).strip()[:limit].rstrip()


def encodable(value: str) -> str:
    """Without the lone surrogates that a broken character set leaves, which UTF-8 cannot hold."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def person_name(value: str) -> str:
    """At most three component groups of at most 64 characters and five components (PS3.5 6.2.1)."""
    groups = [_name_group(group) for group in value.split("=")[:3]]
    while groups and not groups[-1]:
        groups.pop()
    return "=".join(groups)


def _name_group(group: str) -> str:
    parts = [one_line(part) for part in group.split("^")[:5]]
    return "^".join(parts).rstrip("^")[:64].rstrip("^ ")


def is_uid(value: str) -> bool:
    """Whether it is a UID by PS3.5 9.1."""
    return len(value) <= LIMITS["UI"] and _UID.fullmatch(value) is not None


def is_referable(value: str) -> bool:
    """Whether a foreign UID can stand in an evidence list: legal characters and length; leading zeros are common there."""
    return re.fullmatch(r"[0-9.]{1,64}", value) is not None


@cache
def _vr(keyword: str) -> str:
    return dictionary_VR(keyword)


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def _decoded(header: Dataset, keyword: str) -> list[str]:
    value = raw(header, keyword)
    if value is None or isinstance(value, Dataset | bytes):
        return []
    try:
        return [str(one) for one in value] if isinstance(value, MultiValue | list | tuple) else [str(value)]
    except _READ_ERRORS:
        return []


def _date(value: str) -> str:
    digits = value.strip().replace(".", "").replace("-", "")  # 1995.02.03 is the form before DICOM 3.0
    try:
        return date.fromisoformat(digits).strftime("%Y%m%d") if len(digits) == len("YYYYMMDD") and digits.isdigit() else ""
    except ValueError:
        return ""


def _matching(pattern: re.Pattern[str], value: str) -> str:
    found = value.strip()
    return found if pattern.fullmatch(found) else ""
