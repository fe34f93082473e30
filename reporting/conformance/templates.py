"""Rules of templates that no public validator checks (PS3.16): TID 1500, 1501, 1410, 1411, 4019, 2000, 1204, 1002 …"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydicom import Dataset

from inference.reading import Code
from reporting import codes
from reporting.content import concept, is_code, walk
from reporting.context import Fault

_TITLES_1500: Final = frozenset({"126000", "126001", "126002", "126003"})  # CID 7021
_LANGUAGE_TAG: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")  # RFC 5646, in part
_OLD_PERSON: Final = Code("121006", "DCM", "Person")
_BODIES_1500: Final = (
    codes.IMAGING_MEASUREMENTS,
    codes.QUALITATIVE_EVALUATIONS,
    Code("126011", "DCM", "Derived Imaging Measurements"),
)
_UNITS: Final = ("UCUM",)
_TRACKED: Final = frozenset({"1410", "1411"})


def template_faults(ds: Dataset) -> Iterator[Fault]:
    """Faults of the template that the root names; nothing where it names none of these."""
    template = template_of(ds)
    if template == "1500":
        yield from _measurement_report(ds)
    if template == "2000":
        yield from _diagnostic_report(ds)
    for item in walk(ds):
        yield from _language(item)
        if is_code(concept(item), codes.MEASUREMENT_GROUP):
            yield from _group(item)


def template_of(ds: Dataset) -> str:
    named = ds.get("ContentTemplateSequence") or ()
    return str(named[0].get("TemplateIdentifier", "")) if named else ""


def children(item: Dataset, name: Code) -> list[Dataset]:
    """The item's children of this concept name."""
    return [child for child in item.get("ContentSequence") or () if is_code(concept(child), name)]


def _measurement_report(ds: Dataset) -> Iterator[Fault]:
    title = concept(ds)
    if title is None or (title.scheme == "DCM" and title.value not in _TITLES_1500):  # CID 7021 is extensible
        yield Fault("tid-1500-title", "PS3.16 TID 1500 row 1, CID 7021", "the title is none of a measurement report")
    yield from _observer(ds, "TID 1500 row 3")
    if not children(ds, codes.PROCEDURE_REPORTED):
        yield Fault("tid-1500-procedure", "PS3.16 TID 1500 row 4", "Procedure reported is missing")
    if not any(children(ds, name) for name in _BODIES_1500):
        text = "neither Imaging Measurements nor Qualitative Evaluations is there"
        yield Fault("tid-1500-body", "PS3.16 TID 1500 rows 6 to 12", text)
    for library in children(ds, codes.IMAGE_LIBRARY):
        yield from _library(library)


def _library(library: Dataset) -> Iterator[Fault]:
    for group in children(library, codes.IMAGE_LIBRARY_GROUP):
        held = group.get("ContentSequence") or ()
        if not any(child.get("ValueType") in ("IMAGE", "WAVEFORM", "COMPOSITE") for child in held):
            yield Fault("tid-1601", "PS3.16 TID 1600 row 3, TID 1601", "an Image Library Group names no image")


def _diagnostic_report(ds: Dataset) -> Iterator[Fault]:
    if concept(ds) is None:
        yield Fault("tid-2000-title", "PS3.16 TID 2000 row 1", "the document has no title")
    if not children(ds, codes.LANGUAGE):
        yield Fault("tid-2000-language", "PS3.16 TID 2000 row 5, TID 1204", "the language is not named")
    yield from _observer(ds, "TID 2000 row 7")
    sections = [child for child in ds.get("ContentSequence") or () if child.get("ValueType") == "CONTAINER"]
    for section in sections:
        if concept(section) is None:
            yield Fault("tid-2000-heading", "PS3.16 TID 2000 row 8, CID 7001", "a section has no heading")
        if not section.get("ContentSequence"):
            yield Fault("tid-2000-empty", "PS3.16 TID 2000 row 10, TID 2002", "a section says nothing")


def _observer(ds: Dataset, row: str) -> Iterator[Fault]:
    """TID 1001 and 1002: a device is named by its UID (TID 1004), a person by a name (TID 1003)."""
    clause = f"PS3.16 {row}, TID 1002"
    kinds = [concept(item, "ConceptCodeSequence") for item in children(ds, codes.OBSERVER_TYPE)]
    device = any(is_code(kind, codes.DEVICE) for kind in kinds)
    person = any(is_code(kind, _OLD_PERSON) for kind in kinds)
    uid, name = children(ds, codes.DEVICE_OBSERVER_UID), children(ds, codes.PERSON_OBSERVER_NAME)
    if device and not uid:
        yield Fault("tid-1004", "PS3.16 TID 1004 row 1", "the device observer has no UID")
    if person and not name:
        yield Fault("tid-1003", "PS3.16 TID 1003 row 1", "the person observer has no name")
    if not (uid or name or device or person):
        yield Fault("tid-1002", clause, "no observer is named")


def _group(group: Dataset) -> Iterator[Fault]:
    """TID 1410, 1411, 1501; 4019 wherever an algorithm is named."""
    template = template_of(group)
    if template in _TRACKED:
        for name in (codes.TRACKING_IDENTIFIER, codes.TRACKING_UID):
            if not children(group, name):
                yield Fault(f"tid-{template}-tracking", f"PS3.16 TID {template}", f"a measurement group lacks {name.meaning!r}")
    named, version = children(group, codes.ALGORITHM_NAME), children(group, codes.ALGORITHM_VERSION)
    if bool(named) != bool(version):
        yield Fault("tid-4019", "PS3.16 TID 4019 rows 1 and 2", "an algorithm is named without its version, or the reverse")
    for number in (item for item in walk(group) if item.get("ValueType") == "NUM"):
        units = [concept(measured, "MeasurementUnitsCodeSequence") for measured in number.get("MeasuredValueSequence") or ()]
        if any(unit is not None and unit.scheme not in _UNITS for unit in units):
            yield Fault("units", "PS3.16 TID 300, CID 82", "a measurement's unit is not UCUM")


def _language(item: Dataset) -> Iterator[Fault]:
    """TID 1204: a tag of RFC 5646 (earlier files name ISO 639 or RFC 3066)."""
    if not is_code(concept(item), codes.LANGUAGE):
        return
    value = concept(item, "ConceptCodeSequence")
    if value is None or not _LANGUAGE_TAG.fullmatch(value.value):
        yield Fault("tid-1204", "PS3.16 TID 1204 row 1, CID 5000", "the language is no tag of RFC 5646")
