"""What is asked of an archive, and what it answers: the same words for C-FIND and QIDO-RS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.multival import MultiValue

from dicom_node.pixels.quiet import quiet

Match = Mapping[str, str]  # attribute keyword to value; several values between backslashes, absent ones as ""
UNLIMITED: Final = 10_000


class Level(StrEnum):
    """Query/Retrieve Level (0008,0052)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


UNIQUE_KEYS: Final[Mapping[Level, str]] = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}


@dataclass(frozen=True, slots=True)
class Query:
    """``keys``: attribute keyword to what it must match (PS3.4 C.2.2.2); "": any, and told in the answer.

    ``most``: how many matches are taken; the archive is told to stop there.
    """

    level: Level
    keys: Mapping[str, str] = field(default_factory=dict)
    most: int = UNLIMITED

    @property
    def all_keys(self) -> dict[str, str]:
        """With the unique key of the level, which every answer must tell."""
        return {UNIQUE_KEYS[self.level]: "", **self.keys}


@dataclass(frozen=True, slots=True)
class Found:
    """``whole``: the archive had no more than was taken."""

    matches: tuple[Match, ...]
    whole: bool = True


def identifier(query: Query) -> Dataset:
    """The identifier of a C-FIND request (PS3.4 C.4.1.1.3), in a character set that holds its values."""
    built = Dataset()
    charset = character_set(query.all_keys.values())
    if charset:
        built.SpecificCharacterSet = charset
    built.QueryRetrieveLevel = query.level.value
    with quiet():
        for keyword, value in query.all_keys.items():
            built.add(_element(keyword, value))
    return built


def character_set(values: Iterable[str]) -> str:
    """The simplest that holds all of them: none for ASCII, Latin 1 before Unicode, which not every archive reads."""
    text = "".join(values)
    if text.isascii():
        return ""
    try:
        text.encode("iso-8859-1")
    except UnicodeEncodeError:
        return "ISO_IR 192"
    return "ISO_IR 100"


def _element(keyword: str, value: str) -> DataElement:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    vr = dictionary_VR(tag)
    if vr == "SQ":
        return DataElement(tag, vr, [])
    told: Any = value.split("\\") if "\\" in value else value
    return DataElement(tag, vr, told or None, validation_mode=0)


def match_of(dataset: Dataset, keywords: Iterable[str]) -> Match:
    """The values that were asked for, decoded by the answer's own character set."""
    with quiet():
        return {keyword: _text(dataset, keyword) for keyword in keywords}


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        value = dataset.get(keyword)
    except Exception:  # noqa: BLE001  one value that cannot be decoded is as good as absent
        return ""
    if value is None or dictionary_VR(keyword) == "SQ":
        return ""
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return "\\".join(str(one) for one in values).strip(" \0")


def match_of_json(tree: Mapping[str, Any], keywords: Iterable[str]) -> Match:
    """The same of a DICOM JSON object (PS3.18 F.2)."""
    values = {keyword_for_tag(tag): _json_text(element) for tag, element in tree.items() if _is_tag(tag)}
    return {keyword: values.get(keyword, "") for keyword in keywords}


def _is_tag(text: str) -> bool:
    return len(text) == 8 and all(c in "0123456789ABCDEFabcdef" for c in text)


def _json_text(element: Any) -> str:
    values = element.get("Value") if isinstance(element, dict) else None
    if not isinstance(values, list):
        return ""
    return "\\".join(_json_value(one) for one in values).strip()


def _json_value(value: Any) -> str:
    if isinstance(value, dict):  # a person's name, by its groups (PS3.18 F.2.2)
        groups = [str(value.get(name) or "") for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)
