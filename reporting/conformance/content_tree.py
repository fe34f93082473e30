"""The content tree of a structured report: value types, relationships and what each item must hold (PS3.3 A.35, C.17.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydicom import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
)

from reporting.context import Fault

_WORDS: Final = frozenset({"TEXT", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME"})
_OBJECTS: Final = frozenset({"COMPOSITE", "IMAGE", "WAVEFORM"})
_MOD: Final = frozenset({"TEXT", "CODE"})
_BASIC: Final = _WORDS | _OBJECTS
_ENHANCED: Final = _BASIC | {"NUM", "SCOORD", "TCOORD"}
_ALL: Final = _ENHANCED | {"SCOORD3D"}
_Rules = dict[str, dict[str, frozenset[str]]]  # relationship: source value type: target value types


def _rules(values: frozenset[str], number: frozenset[str], *, nested: bool) -> _Rules:
    """``values``: what may be contained. ``number``: NUM where there is one. ``nested``: containers below any item."""
    context = _WORDS | number
    box = frozenset({"CONTAINER"}) if nested else frozenset()
    told = dict.fromkeys(("TEXT", *(("CODE", "NUM") if number else ())), values | box)
    persons = {"PNAME": _WORDS}
    bodies = {"CONTAINER", "IMAGE", "WAVEFORM", "COMPOSITE", *number}
    places = frozenset({"SCOORD", "SCOORD3D"}) & values
    coordinates = {"SCOORD": frozenset({"IMAGE"}), "TCOORD": places | {"IMAGE", "WAVEFORM"}}
    observed = {"CONTAINER", *(("TEXT", "CODE", "NUM") if nested else ())}
    return {
        "CONTAINS": {"CONTAINER": values | {"CONTAINER"}},
        "HAS OBS CONTEXT": dict.fromkeys(observed, context | {"COMPOSITE"} | box),
        "HAS ACQ CONTEXT": dict.fromkeys(bodies, context | box),
        "HAS CONCEPT MOD": dict.fromkeys(_ALL | {"CONTAINER"}, _MOD),
        "HAS PROPERTIES": {**told, **persons},
        "INFERRED FROM": told,
        "SELECTED FROM": {**coordinates, "SCOORD3D": frozenset({"IMAGE"})} if number else {},
    }


_NUM: Final = frozenset({"NUM"})
_KEY_OBJECTS: Final[_Rules] = {  # A.35.4.3.1.2
    "CONTAINS": {"CONTAINER": _OBJECTS | {"TEXT"}},
    "HAS OBS CONTEXT": {"CONTAINER": frozenset({"TEXT", "CODE", "UIDREF", "PNAME"})},
    "HAS CONCEPT MOD": {"CONTAINER": frozenset({"CODE"})},
}
_RULES: Final[dict[str, _Rules]] = {
    BasicTextSRStorage: _rules(_BASIC, frozenset(), nested=False),
    EnhancedSRStorage: _rules(_ENHANCED, _NUM, nested=False),
    ComprehensiveSRStorage: _rules(_ENHANCED, _NUM, nested=True),
    Comprehensive3DSRStorage: _rules(_ALL, _NUM, nested=True),
    KeyObjectSelectionDocumentStorage: _KEY_OBJECTS,
}
_RELATIONSHIPS: Final = frozenset(_RULES[Comprehensive3DSRStorage])
_BY_VALUE_ONLY: Final = frozenset({BasicTextSRStorage, EnhancedSRStorage, KeyObjectSelectionDocumentStorage})
_VALUES: Final = {
    "TEXT": ("TextValue",),
    "CODE": ("ConceptCodeSequence",),
    "NUM": ("MeasuredValueSequence",),
    "DATETIME": ("DateTime",),
    "DATE": ("Date",),
    "TIME": ("Time",),
    "UIDREF": ("UID",),
    "PNAME": ("PersonName",),
    "IMAGE": ("ReferencedSOPSequence",),
    "COMPOSITE": ("ReferencedSOPSequence",),
    "WAVEFORM": ("ReferencedSOPSequence",),
    "SCOORD": ("GraphicType", "GraphicData"),
    "SCOORD3D": ("GraphicType", "GraphicData", "ReferencedFrameOfReferenceUID"),
    "TCOORD": ("TemporalRangeType",),
    "CONTAINER": ("ContinuityOfContent",),
}
_NAMELESS: Final = frozenset({"IMAGE", "COMPOSITE", "WAVEFORM", "SCOORD", "SCOORD3D", "TCOORD", "CONTAINER"})
# Points of each graphic type (C.18.6.1.1, C.18.9.1.2): exactly, or at least where negative
_POINTS: Final = {"POINT": 1, "CIRCLE": 2, "ELLIPSE": 4, "MULTIPOINT": -1, "POLYLINE": -1, "POLYGON": -3, "ELLIPSOID": 6}


def tree_faults(ds: Dataset) -> Iterator[Fault]:
    """Every rule that the tree breaks. Nothing for an object that has none."""
    if "ValueType" not in ds and "ContentSequence" not in ds:
        return
    if ds.get("ValueType") != "CONTAINER":
        yield Fault("tree-root", "PS3.3 C.17.3", "the root of the content tree is no CONTAINER")
    sop_class = str(ds.get("SOPClassUID", ""))
    yield from _item(ds, _RULES.get(sop_class), "1")
    yield from _by_reference(ds, ds, "1", allowed=sop_class not in _BY_VALUE_ONLY)


def _item(item: Dataset, rules: _Rules | None, place: str) -> Iterator[Fault]:
    """``place``: where the item stands, as 1.3.2; by-reference items point at such places (C.17.3.2.5)."""
    kind = str(item.get("ValueType", ""))
    yield from _value(item, kind, place)
    for number, child in enumerate(item.get("ContentSequence") or (), start=1):
        below = f"{place}.{number}"
        relationship = str(child.get("RelationshipType", ""))
        if not relationship:
            yield Fault("relationship", "PS3.3 C.17.3.2.4", f"item {below} has no Relationship Type")
        if "ReferencedContentItemIdentifier" in child:
            continue
        target = str(child.get("ValueType", ""))
        if rules is not None and relationship and target not in rules.get(relationship, {}).get(kind, frozenset()):
            named = _terms(kind, relationship, target)
            said = f"item {below}: {named} is not allowed in this SOP class"
            yield Fault("relationship", "PS3.3 A.35, relationship content constraints", said)
        yield from _item(child, rules, below)


def _terms(kind: str, relationship: str, target: str) -> str:
    """The three as they may be shown: a foreign file could hold anything in their place."""
    shown = ((kind, kind in _VALUES), (relationship, relationship in _RELATIONSHIPS), (target, target in _VALUES))
    return " ".join(term if known else "(unknown)" for term, known in shown)


def _by_reference(item: Dataset, root: Dataset, place: str, *, allowed: bool) -> Iterator[Fault]:
    """Items that point at another item of the tree instead of holding one."""
    for number, child in enumerate(item.get("ContentSequence") or (), start=1):
        below = f"{place}.{number}"
        if "ReferencedContentItemIdentifier" not in child:
            yield from _by_reference(child, root, below, allowed=allowed)
        elif not allowed:
            yield Fault("by-reference", "PS3.3 A.35, relationship content constraints", f"item {below} refers to another item")
        elif not _leads_somewhere(root, child["ReferencedContentItemIdentifier"].value):
            yield Fault("by-reference", "PS3.3 C.17.3.2.5", f"item {below} refers to an item that is not there")


def _leads_somewhere(root: Dataset, identifier: object) -> bool:
    """Whether the numbers, from 1 for the root on, lead to an item."""
    steps = [identifier] if isinstance(identifier, int) else list(identifier) if isinstance(identifier, Iterable) else []
    item = root
    for step in steps[1:]:
        children = item.get("ContentSequence") or ()
        if not isinstance(step, int) or not 1 <= step <= len(children):
            return False
        item = children[step - 1]
    return steps[:1] == [1]


def _value(item: Dataset, kind: str, place: str) -> Iterator[Fault]:
    if kind not in _VALUES:
        yield Fault("value-type", "PS3.3 C.17.3.2.1", f"item {place} has no known Value Type")
        return
    for keyword in _VALUES[kind]:
        empty_number = kind == "NUM" and keyword in item  # type 2: an empty Measured Value Sequence says "no value"
        if keyword not in item or (item[keyword].is_empty and not empty_number):
            yield Fault("value", "PS3.3 C.17.3.2 and C.18", f"item {place} ({kind}) has no {keyword}")
    name = item.get("ConceptNameCodeSequence") or ()
    if len(name) != 1 and kind not in _NAMELESS:
        yield Fault("concept-name", "PS3.3 C.17.3.2.2", f"item {place} ({kind}) has no Concept Name")
    for code in (*name, *(item.get("ConceptCodeSequence") or ())):
        yield from _code(code, place)
    if kind == "NUM":
        yield from _number(item, place)
    if kind in ("SCOORD", "SCOORD3D"):
        yield from _graphic(item, kind, place)
    for reference in item.get("ReferencedSOPSequence") or ():
        for keyword in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"):
            if not reference.get(keyword):
                yield Fault("reference", "PS3.3 10.8", f"item {place} refers to an object without {keyword}")


def _code(code: Dataset, place: str) -> Iterator[Fault]:
    """PS3.3 section 8: value, scheme and meaning are mandatory."""
    value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue")
    if not value or not code.get("CodeMeaning") or not (code.get("CodingSchemeDesignator") or code.get("URNCodeValue")):
        yield Fault("code", "PS3.3 8.8", f"item {place} has a code without value, scheme or meaning")
    if len(str(code.get("CodeMeaning", ""))) > 64 or len(str(code.get("CodeValue", ""))) > 16:
        yield Fault("code-length", "PS3.5 6.2", f"item {place} has a code value over 16 or a meaning over 64 characters")


def _number(item: Dataset, place: str) -> Iterator[Fault]:
    for measured in item.get("MeasuredValueSequence") or ():
        if not measured.get("MeasurementUnitsCodeSequence") or measured.get("NumericValue") is None:
            yield Fault("number", "PS3.3 C.18.1", f"item {place} has a number without value or unit")


def _graphic(item: Dataset, kind: str, place: str) -> Iterator[Fault]:
    values = item.get("GraphicData") or []
    size = 3 if kind == "SCOORD3D" else 2
    wanted = _POINTS.get(str(item.get("GraphicType", "")))
    count = len(values) // size
    if wanted is None or len(values) % size or (count != wanted if wanted > 0 else count < -wanted):
        yield Fault("graphic", "PS3.3 C.18.6.1.1", f"item {place} has a number of points that its graphic type does not allow")
