"""The identifiers of queries: data sets in, keys and answers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from dicom_node.index.headers import KNOWN, Attributes
from dicom_node.index.matching import Key
from dicom_node.pixels.quiet import quiet
from dicom_node.remote.matches import Level, character_set

_NOT_KEYS: Final = frozenset({"00080005", "00080052", "00080053", "00080201"})  # charset, level, view, time zone
_MOST: Final = 256  # attributes of an identifier; PS3.4 C.6.2.1 has fewer than 100


class Unusable(Exception):  # noqa: N818 - it becomes a status
    """The identifier does not match the SOP class (0xA900); the message says why, without its values."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query as it came. ``unknown``: whether it has keys that the index does not hold (status 0xFF01)."""

    level: Level
    keys: tuple[Key, ...]

    @property
    def unknown(self) -> bool:
        return any(one.tag not in KNOWN and one.vr != "SQ" for one in self.keys)

    def uids(self, tag: str) -> tuple[str, ...]:
        found = next((one.value for one in self.keys if one.tag == tag), "")
        return tuple(uid for uid in found.split("\\") if uid)


def read(data: bytes, syntax: str) -> Asked:
    """Raises Unusable."""
    try:
        with quiet():
            dataset = decode(BytesIO(data), UID(syntax).is_implicit_VR, UID(syntax).is_little_endian)
            level = str(dataset.get("QueryRetrieveLevel", "")).strip()
            keys = [_key(element) for element in dataset]
    except Exception as error:
        raise Unusable("the identifier cannot be read") from error
    if level not in (Level.STUDY, Level.SERIES, Level.IMAGE):
        raise Unusable("Query/Retrieve Level (0008,0052) must be STUDY, SERIES or IMAGE")
    if len(keys) > _MOST:
        raise Unusable(f"more than {_MOST} keys")
    return Asked(Level(level), tuple(key for key in keys if key.tag not in _NOT_KEYS and key.tag[4:] != "0000"))


def _key(element: DataElement) -> Key:
    value = element.value
    if element.VR == "SQ" or value is None:
        return Key(f"{element.tag:08X}", str(element.VR), "")
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return Key(f"{element.tag:08X}", str(element.VR), "\\".join(str(one) for one in values))


def answer(asked: Asked, found: Attributes, syntax: str, more: Mapping[str, str]) -> bytes:
    """The identifier of one match: what was asked for, empty where it is not known, and ``more`` by keyword."""
    told = Dataset()
    with quiet():
        for key in asked.keys:
            told.add(_element(key, found.get(key.tag)))
        charset = character_set(_texts(found[key.tag] for key in asked.keys if key.tag in found))
        if charset:
            told.SpecificCharacterSet = charset
        told.QueryRetrieveLevel = asked.level.value
        for keyword, value in more.items():
            setattr(told, keyword, value)
        return encoded(told, syntax)


def encoded(dataset: Dataset, syntax: str) -> bytes:
    """Raises ValueError where a value cannot be encoded."""
    made = encode(dataset, UID(syntax).is_implicit_VR, UID(syntax).is_little_endian)
    if made is None:
        raise ValueError("a data set cannot be encoded")
    return bytes(made)


def _element(key: Key, held: Any) -> DataElement:
    tag = int(key.tag, 16)
    if held is None:
        return DataElement(tag, key.vr, [] if key.vr == "SQ" else None)
    return DataElement.from_json(Dataset, key.tag, held["vr"], held.get("Value", []), "Value" if held.get("Value") else None)


def _texts(elements: Any) -> list[str]:
    return [text for element in elements for text in _strings(element.get("Value", ()))]


def _strings(values: Sequence[Any]) -> list[str]:
    found: list[str] = []
    for value in values:
        if isinstance(value, dict):
            found += [str(group) for group in value.values()]
        else:
            found.append(str(value))
    return found
