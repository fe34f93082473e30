"""Attribute matching (PS3.4 C.2.2.2): single value, list of UIDs, wildcard, range, universal. Sequences match everything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pydicom.datadict import tag_for_keyword

from dicom_node.index.headers import KNOWN, text_of
from dicom_node.storage.index import Narrow, name_key_of

_WILD: Final = frozenset(["AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"])  # PS3.4 C.2.2.2.4
_RANGED: Final = frozenset({"DA", "TM", "DT"})  # C.2.2.2.5
_RANGE: Final = re.compile(r"([0-9.+]*)-([0-9.+]*)")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a query. ``tag``: 8 hexadecimal digits. ``value``: as sent, several values between backslashes."""

    tag: str
    vr: str
    value: str

    @property
    def universal(self) -> bool:
        return not self.value.strip(" *") or self.vr == "SQ"

    @property
    def wild(self) -> bool:
        return self.vr in _WILD and ("*" in self.value or "?" in self.value)


def matches(attributes: Mapping[str, Any], keys: Sequence[Key]) -> bool:
    """Whether all keys that are known match; one that is not known matches everything (C.2.2.1.3)."""
    return all(one.universal or one.tag not in KNOWN or _match(attributes.get(one.tag), one) for one in keys)


def _match(element: Any, key: Key) -> bool:
    held = [text_of(value).strip() for value in (element or {}).get("Value", ())]
    if key.vr == "UI":
        return bool(set(held) & set(key.value.split("\\")))
    if key.vr in _RANGED:
        return any(_in_range(one, key) for one in held)
    if key.vr in ("IS", "DS", "US", "UL", "SS", "SL"):
        return any(_number(one) == _number(key.value) for one in held)
    return any(_same(one, wanted.strip(), key.vr) for one in held for wanted in key.value.split("\\"))


def _same(held: str, wanted: str, vr: str) -> bool:
    """Names whatever the case, each component group by itself; delimiters at the end count for nothing (PS3.5 6.2.1)."""
    if vr == "PN":
        pattern = _pattern(wanted.upper().rstrip("^= "))
        return any(pattern.fullmatch(group.upper().rstrip("^ ")) for group in (held, *held.split("=")))
    if vr in _WILD:
        return _pattern(wanted).fullmatch(held) is not None
    return held == wanted


@lru_cache(maxsize=1024)
def _pattern(wanted: str) -> re.Pattern[str]:
    """``*``: any characters, none too; ``?``: any one."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in re.sub(r"\*+", "*", wanted))
    return re.compile("".join(parts), re.DOTALL)


def _in_range(held: str, key: Key) -> bool:
    found = _RANGE.fullmatch(key.value.strip())
    if found is None:
        return _moment(held, key.vr) == _moment(key.value, key.vr)
    low, high = found.groups()
    told = _moment(held, key.vr)
    return (not low or told >= _moment(low, key.vr)) and (not high or told[: len(high.strip())] <= high.strip())


def _moment(text: str, vr: str) -> str:
    """Comparable as text: ACR-NEMA's punctuation is left out, a time of day is filled up."""
    plain = text.strip().replace(":", "") if vr == "TM" else text.strip().replace(".", "") if vr == "DA" else text.strip()
    return plain.partition(".")[0].ljust(6, "0") + "." + plain.partition(".")[2].ljust(6, "0") if vr == "TM" else plain


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def narrowed(keys: Sequence[Key]) -> Narrow:
    """What of the keys the database can tell apart."""
    by_tag = {one.tag: one for one in keys if not one.universal}
    since, until = _days(by_tag.get(_tag("StudyDate")))
    return Narrow(
        study_uids=tuple(_uids(by_tag, "StudyInstanceUID")),
        series_uids=tuple(_uids(by_tag, "SeriesInstanceUID")),
        sop_uids=tuple(_uids(by_tag, "SOPInstanceUID")),
        patient_id=_exact(by_tag, "PatientID"),
        accession_number=_exact(by_tag, "AccessionNumber"),
        name_prefix=_name_prefix(by_tag.get(_tag("PatientName"))),
        since=since,
        until=until,
        modality_in_study=_exact(by_tag, "ModalitiesInStudy"),
        modality=_exact(by_tag, "Modality"),
    )


def _tag(keyword: str) -> str:
    return f"{tag_for_keyword(keyword) or 0:08X}"


def _uids(keys: Mapping[str, Key], keyword: str) -> Iterator[str]:
    key = keys.get(_tag(keyword))
    return (uid for uid in (key.value.split("\\") if key else ()) if uid)


def _exact(keys: Mapping[str, Key], keyword: str) -> str:
    """One value without wildcards; anything else is left to the matching."""
    key = keys.get(_tag(keyword))
    return "" if key is None or key.wild or "\\" in key.value else key.value.strip()


def _name_prefix(key: Key | None) -> str:
    """What stands before the first wildcard; only of the alphabetic group, which the index knows."""
    if key is None or "=" in key.value or "\\" in key.value or not key.value.isascii():
        return ""
    return name_key_of(re.split(r"[*?]", key.value)[0])


def _days(key: Key | None) -> tuple[str, str]:
    if key is None:
        return "", ""
    found = _RANGE.fullmatch(key.value.strip())
    if found is None:
        return (key.value.strip(), key.value.strip()) if len(key.value.strip()) == 8 else ("", "")
    return found[1], found[2]
