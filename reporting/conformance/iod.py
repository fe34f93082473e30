"""Attributes that an object of a SOP class must have, by the tables that highdicom ships of PS3.3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from reporting.context import Fault
from reporting.errors import DocumentError

_SKIPPED: Final = frozenset({"sr-document-content"})  # recursive: see content_tree
_CLAUSE: Final = "PS3.3 annex C, module {}"
# A functional group stands in either of the two, and some only where a condition holds (C.7.6.16.1.1, C.7.6.16.1.2)
_GROUPS: Final = frozenset({"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"})
# "This type definition shall override the definition in the General Series Module" (C.8.6.1)
_OVERRIDING: Final = {("general-series", "Modality"): "sc-equipment"}


@dataclass(slots=True)
class _Node:
    """The attributes of one level, and of the items below each of its sequences."""

    wanted: list[tuple[int, str, str, str]] = field(default_factory=list)  # tag, keyword, type 1 or 2, module
    below: dict[int, _Node] = field(default_factory=dict)


def attribute_faults(ds: Dataset) -> Iterator[Fault]:
    """Type 1 attributes that are missing or empty, type 2 attributes that are missing, of mandatory modules."""
    tree = _tree(str(ds.get("SOPClassUID", "")))
    if tree is None:
        yield Fault("iod-class", "PS3.4 B.5", "the SOP Class UID is not one whose attributes are known here")
        return
    yield from _check(ds, tree, "")


def known_class(sop_class_uid: str) -> bool:
    return sop_class_uid in _map("sop_class_iod_map")


def _check(ds: Dataset, node: _Node, place: str) -> Iterator[Fault]:
    for tag, keyword, kind, module in node.wanted:
        if tag not in ds:
            yield Fault(f"type-{kind}", _CLAUSE.format(module), f"{place}{keyword} is missing (type {kind})")
        elif kind == "1" and _empty(ds[tag].value):
            yield Fault("type-1", _CLAUSE.format(module), f"{place}{keyword} is empty (type 1)")
    for tag, below in node.below.items():
        element = ds.get(tag)
        if element is not None and element.VR == "SQ":
            for item in element.value or ():
                yield from _check(item, below, f"{place}{element.keyword}.")


def _empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


@cache
def _tree(sop_class_uid: str) -> _Node | None:
    iod = _map("sop_class_iod_map").get(sop_class_uid)
    if iod is None:
        return None
    root = _Node()
    modules = [module["key"] for module in _map("iod_module_map")[iod] if module["usage"] == "M"]
    for module in modules:
        if module not in _SKIPPED:
            for attribute in _map("module_attribute_map")[module]:
                if _OVERRIDING.get((module, attribute["keyword"])) not in modules:
                    _place(root, attribute, module)
    return root


def _place(root: _Node, attribute: dict[str, Any], module: str) -> None:
    tag = tag_for_keyword(attribute["keyword"])
    if attribute["type"] not in ("1", "2") or tag is None or _GROUPS.intersection(attribute["path"][-1:]):
        return
    node = root
    for keyword in attribute["path"]:
        sequence = tag_for_keyword(keyword)
        if sequence is None:
            return
        node = node.below.setdefault(sequence, _Node())
    if not any(entry[0] == tag for entry in node.wanted):
        node.wanted.append((tag, attribute["keyword"], attribute["type"], module))


@cache
def _map(name: str) -> dict[str, Any]:
    spec = find_spec("highdicom")
    if spec is None or spec.origin is None:
        raise DocumentError("the package highdicom is missing; install it again")
    path = Path(spec.origin).parent / "_standard" / f"{name}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DocumentError(f"{path.name} of highdicom is missing; install highdicom again") from error
    return found
