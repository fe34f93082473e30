"""Content items of a structured report (PS3.3 C.17.3), and how values get into datasets.

The items are highdicom's, which checks value types and relationships. Its document classes are not used: they read the clock,
so that a retry would make another object, and demand attributes that real images lack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    PnameContentItem,
    TextContentItem,
    UIDRefContentItem,
)
from pydicom import DataElement, Dataset, config
from pydicom import Sequence as DicomSequence
from pydicom.datadict import dictionary_VR, tag_for_keyword

from inference.reading import Code
from reporting.clean import many_lines, one_line

CONTAINS: Final = "CONTAINS"
HAS_OBS_CONTEXT: Final = "HAS OBS CONTEXT"
HAS_CONCEPT_MOD: Final = "HAS CONCEPT MOD"
HAS_ACQ_CONTEXT: Final = "HAS ACQ CONTEXT"
HAS_PROPERTIES: Final = "HAS PROPERTIES"


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
    item: Dataset = CodedConcept(one_line(code.value), one_line(code.scheme, 16), one_line(code.meaning, 64))
    return item


def container(name: Code, children: Iterable[Dataset], relationship: str = "", template: str = "") -> Dataset:
    item = ContainerContentItem(coded(name), template_id=template or None, relationship_type=relationship or None)
    return _with_children(item, children)


def code_item(relationship: str, name: Code, value: Code, children: Iterable[Dataset] = ()) -> Dataset:
    return _with_children(CodeContentItem(coded(name), coded(value), relationship), children)


def text_item(relationship: str, name: Code, value: str, children: Iterable[Dataset] = ()) -> Dataset:
    """A TEXT item; text that is empty after cleaning becomes a dash, since Text Value must not be empty (type 1C)."""
    return _with_children(TextContentItem(coded(name), many_lines(value) or "-", relationship), children)


def uid_item(relationship: str, name: Code, value: str) -> Dataset:
    item: Dataset = UIDRefContentItem(coded(name), value, relationship)
    return item


def person_item(relationship: str, name: Code, person: str) -> Dataset:
    item: Dataset = PnameContentItem(coded(name), person, relationship)
    return item


def percent_item(relationship: str, name: Code, fraction: float, unit: Code, children: Iterable[Dataset] = ()) -> Dataset:
    """A NUM item of ``fraction`` (0..1) in percent, two decimals."""
    item = NumContentItem(coded(name), round(100 * fraction, 2), coded(unit), relationship_type=relationship)
    return _with_children(item, children)


def image_items(relationship: str, name: Code, image: ImageReference | None) -> list[Dataset]:
    """One IMAGE item, or none where there is no image to refer to."""
    return [image_item(relationship, name, image)] if image else []


def image_item(relationship: str, name: Code, image: ImageReference) -> Dataset:
    item: Dataset = ImageContentItem(
        coded(name),
        image.sop_class_uid,
        image.sop_instance_uid,
        referenced_frame_numbers=image.frame_number,
        relationship_type=relationship,
    )
    return item


def walk(item: Dataset) -> Iterator[Dataset]:
    """The item and everything below it in the content tree, in document order."""
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def concept(item: Dataset, sequence: str = "ConceptNameCodeSequence") -> Code | None:
    """The code an item carries in ``sequence``, or None."""
    codes: Sequence[Dataset] = item.get(sequence) or ()
    if not codes:
        return None
    code = codes[0]
    value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue") or ""
    return Code(str(value), str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeMeaning", "")))


def _with_children(item: Dataset, children: Iterable[Dataset]) -> Dataset:
    below = list(children)
    if below:
        item.ContentSequence = ContentSequence(below, is_root=False)
    return item
