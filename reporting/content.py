"""Content items of a structured report (PS3.3 C.17.3), and how values get into datasets.

Items are written as bytes at once. highdicom's content items and document classes are not used: the classes read the clock, so
that a retry would make another object, and demand attributes that real images lack; the items cost ten times as much.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydicom import DataElement, Dataset, config
from pydicom import Sequence as DicomSequence
from pydicom.datadict import dictionary_VR, tag_for_keyword

from inference.reading import Code
from reporting import encoding
from reporting.clean import many_lines, one_line
from reporting.wording import Words

CONTAINS: Final = "CONTAINS"
HAS_OBS_CONTEXT: Final = "HAS OBS CONTEXT"
HAS_CONCEPT_MOD: Final = "HAS CONCEPT MOD"
HAS_ACQ_CONTEXT: Final = "HAS ACQ CONTEXT"
HAS_PROPERTIES: Final = "HAS PROPERTIES"
CONTENT_SEQUENCE: Final = 0x0040A730


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image to point at; ``frame_number`` is None where the image has one frame only."""

    sop_class_uid: str
    sop_instance_uid: str
    modality: str
    frame_number: int | None = None


def put(dataset: Dataset, **values: Any) -> Dataset:
    """Set elements by keyword without pydicom's value checks, which warn with the value in the text: our checks come later."""
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise KeyError(f"{keyword} is no DICOM keyword")
        held = DicomSequence(value) if dictionary_VR(tag) == "SQ" else value
        dataset[tag] = DataElement(tag, dictionary_VR(tag), held, validation_mode=config.IGNORE)
    return dataset


def coded(code: Code) -> Dataset:
    """An item of a code sequence (PS3.3 section 8)."""
    value = one_line(code.value)
    keyword = (
        "CodeValue" if len(value) <= 16 else "URNCodeValue" if "://" in value or value.startswith("urn") else "LongCodeValue"
    )
    named = {"CodingSchemeDesignator": one_line(code.scheme, 16), "CodeMeaning": one_line(code.meaning, 64)}
    return put(Dataset(), **{keyword: value}, **named)


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A content item and what lies below it.

    ``held``: the concept that a CODE item says, or the unit of a NUM item. ``first`` and ``value``: its elements before and
    after Concept Name, encoded.
    """

    kind: str  # Value Type (0040,A040)
    name: Code
    relationship: str = ""  # to its parent; empty for the root
    first: bytes = b""
    value: bytes = b""
    children: tuple[Item, ...] = ()
    held: Code | None = None
    template: str = ""  # of PS3.16, for a container

    def encode(self, words: Words) -> bytes:
        """The item's elements, explicit VR little endian, without the item's own delimiters.

        Concepts are named in the language of ``words``: Language of Content Item and Descendants (PS3.16 TID 1204) speaks of
        names and values alike, and a Code Meaning may be a translation (PS3.3 8.3); value and scheme stay, so that readers
        which compare those notice nothing.
        """
        relationship = encoding.text(0x0040A010, b"CS", self.relationship) if self.relationship else b""
        name = encoding.sequence(0x0040A043, [encoding.code(said(self.name, words))])
        template = encoding.sequence(0x0040A504, [_template(self.template)]) if self.template else b""
        below = encode_items(self.children, words) if self.children else b""
        kind = encoding.text(0x0040A040, b"CS", self.kind)
        return b"".join((self.first, relationship, kind, name, self._value(words), template, below))

    def _value(self, words: Words) -> bytes:
        if self.held is None:
            return self.value
        concept = encoding.code(said(self.held, words))
        if self.kind == "NUM":
            return encoding.sequence(0x0040A300, [encoding.sequence(0x004008EA, [concept]) + self.value])
        return encoding.sequence(0x0040A168, [concept])

    def schemes(self) -> set[str]:
        """The designators of the coding schemes in the tree."""
        own = {one_line(code.scheme, 16) for code in (self.name, self.held) if code}
        return own.union(*(child.schemes() for child in self.children))


def encode_items(items: Iterable[Item], words: Words) -> bytes:
    """A Content Sequence of these items."""
    return encoding.sequence(CONTENT_SEQUENCE, [item.encode(words) for item in items])


def put_items(ds: Dataset, items: Iterable[Item], words: Words) -> None:
    """Make these items the content of ``ds``."""
    ds[CONTENT_SEQUENCE] = encoding.raw_sequence(CONTENT_SEQUENCE, [item.encode(words) for item in items])


def put_root(ds: Dataset, root: Item, words: Words) -> None:
    """Make ``ds`` the document whose tree starts with ``root`` (C.17.3)."""
    name = coded(said(root.name, words))
    put(ds, ValueType=root.kind, ConceptNameCodeSequence=[name], ContinuityOfContent="SEPARATE")
    if root.template:
        named = put(Dataset(), MappingResource="DCMR", TemplateIdentifier=root.template)
        put(ds, ContentTemplateSequence=[named])
    put_items(ds, root.children, words)


def said(code: Code, words: Words) -> Code:
    """The same concept with its meaning in the language of ``words``."""
    return replace(code, meaning=words.name(code)) if words.names else code


def _template(identifier: str) -> bytes:
    return encoding.text(0x00080105, b"CS", "DCMR") + encoding.text(0x0040DB00, b"CS", identifier)


def container(name: Code, children: Iterable[Item], relationship: str = "", template: str = "") -> Item:
    separate = encoding.text(0x0040A050, b"CS", "SEPARATE")
    return Item("CONTAINER", name, relationship, value=separate, children=tuple(children), template=template)


def code_item(relationship: str, name: Code, value: Code, children: Iterable[Item] = ()) -> Item:
    return Item("CODE", name, relationship, children=tuple(children), held=value)


def text_item(relationship: str, name: Code, value: str, children: Iterable[Item] = ()) -> Item:
    """A TEXT item; text that is empty after cleaning becomes a dash, since Text Value must not be empty (type 1C)."""
    held = encoding.text(0x0040A160, b"UT", many_lines(value) or "-")
    return Item("TEXT", name, relationship, value=held, children=tuple(children))


def uid_item(relationship: str, name: Code, value: str) -> Item:
    return Item("UIDREF", name, relationship, value=encoding.text(0x0040A124, b"UI", value))


def date_item(relationship: str, name: Code, value: str) -> Item:
    """``value``: YYYYMMDD."""
    return Item("DATE", name, relationship, value=encoding.text(0x0040A121, b"DA", value))


def time_item(relationship: str, name: Code, value: str) -> Item:
    """``value``: HHMMSS.FFFFFF or its beginning."""
    return Item("TIME", name, relationship, value=encoding.text(0x0040A122, b"TM", value))


def person_item(relationship: str, name: Code, person: str) -> Item:
    return Item("PNAME", name, relationship, value=encoding.text(0x0040A123, b"PN", person))


def percent_item(relationship: str, name: Code, fraction: float, unit: Code, children: Iterable[Item] = ()) -> Item:
    """A NUM item of ``fraction`` (0..1) in percent, two decimals."""
    number = round(100 * fraction, 2)
    exact = encoding.element(0x0040A161, b"FD", struct.pack("<d", number))
    value = exact + encoding.text(0x0040A30A, b"DS", str(number))
    return Item("NUM", name, relationship, value=value, children=tuple(children), held=unit)


def image_items(relationship: str, name: Code, image: ImageReference | None) -> list[Item]:
    """One IMAGE item, or none where there is no image to refer to."""
    return [image_item(relationship, name, image)] if image else []


def image_item(relationship: str, name: Code, image: ImageReference) -> Item:
    held = encoding.reference(image.sop_class_uid, image.sop_instance_uid, image.frame_number)
    return Item("IMAGE", name, relationship, first=encoding.sequence(0x00081199, [held]))


def composite_item(relationship: str, name: Code, sop_class_uid: str, sop_instance_uid: str) -> Item:
    """A reference to an object that is no image (C.18.3)."""
    held = encoding.reference(sop_class_uid, sop_instance_uid)
    return Item("COMPOSITE", name, relationship, first=encoding.sequence(0x00081199, [held]))


def walk(item: Dataset) -> Iterator[Dataset]:
    """The item and everything below it in the content tree, in document order."""
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def concept(item: Dataset, sequence: str = "ConceptNameCodeSequence") -> Code | None:
    """The code an item carries in ``sequence``, or None."""
    known: dict[str, Code | None] | None = item.__dict__.get("concepts")  # of an object that is only read
    if known is None:
        return _concept(item, sequence)
    if sequence not in known:
        known[sequence] = _concept(item, sequence)
    return known[sequence]


def _concept(item: Dataset, sequence: str) -> Code | None:
    codes: Sequence[Dataset] = item.get(sequence) or ()
    if not codes:
        return None
    code = codes[0]
    value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue") or ""
    return Code(str(value), str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeMeaning", "")))


def is_code(found: Code | None, wanted: Code) -> bool:
    """Whether it is the same concept: a meaning may be in any language (PS3.3 8.3)."""
    return found is not None and (found.value, found.scheme) == (wanted.value, wanted.scheme)
