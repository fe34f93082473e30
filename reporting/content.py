"""Content items of a structured report (PS3.3 C.17.3) as plain datasets, and how values get into datasets.

Built without a toolkit's templates on purpose: they read the clock, demand attributes that real images lack, and would make
the builder its own judge. The tests read what is built here with independent readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
_SHORT_CODE: Final = 16  # Code Value (0008,0100) is SH; longer ones go to Long Code Value (0008,0119)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image to point at; ``frame_number`` is None where the image has one frame only."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
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
    long = len(code.value) > _SHORT_CODE
    return put(
        Dataset(),
        **{"LongCodeValue" if long else "CodeValue": one_line(code.value)},
        CodingSchemeDesignator=one_line(code.scheme, 16),
        CodeMeaning=one_line(code.meaning, 64),
    )


def container(name: Code, children: Iterable[Dataset], relationship: str = "", template: str = "") -> Dataset:
    item = _item("CONTAINER", relationship, name, children)
    put(item, ContinuityOfContent="SEPARATE")
    if template:
        put(item, ContentTemplateSequence=[put(Dataset(), MappingResource="DCMR", TemplateIdentifier=template)])
    return item


def code_item(relationship: str, name: Code, value: Code, children: Iterable[Dataset] = ()) -> Dataset:
    return put(_item("CODE", relationship, name, children), ConceptCodeSequence=[coded(value)])


def text_item(relationship: str, name: Code, value: str, children: Iterable[Dataset] = ()) -> Dataset:
    """A TEXT item; text that is empty after cleaning becomes a dash, since Text Value must not be empty (type 1C)."""
    return put(_item("TEXT", relationship, name, children), TextValue=many_lines(value) or "-")


def uid_item(relationship: str, name: Code, value: str) -> Dataset:
    return put(_item("UIDREF", relationship, name, ()), UID=value)


def percent_item(relationship: str, name: Code, fraction: float, unit: Code, children: Iterable[Dataset] = ()) -> Dataset:
    """A NUM item of ``fraction`` (0..1) in percent, two decimals."""
    measured = put(Dataset(), NumericValue=f"{100 * fraction:.2f}", MeasurementUnitsCodeSequence=[coded(unit)])
    return put(_item("NUM", relationship, name, children), MeasuredValueSequence=[measured])


def image_item(relationship: str, name: Code, image: ImageReference) -> Dataset:
    reference = put(Dataset(), ReferencedSOPClassUID=image.sop_class_uid, ReferencedSOPInstanceUID=image.sop_instance_uid)
    if image.frame_number is not None:
        put(reference, ReferencedFrameNumber=image.frame_number)
    return put(_item("IMAGE", relationship, name, ()), ReferencedSOPSequence=[reference])


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


def _item(value_type: str, relationship: str, name: Code, children: Iterable[Dataset]) -> Dataset:
    item = put(Dataset(), ValueType=value_type, ConceptNameCodeSequence=[coded(name)])
    if relationship:
        put(item, RelationshipType=relationship)
    below = list(children)
    if below:
        put(item, ContentSequence=below)
    return item
