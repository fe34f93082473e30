"""Our Bundles in FHIR R5 (5.0.0), whose definitions are not shipped: the classes of fhir.resources, and what both share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reporting.conformance.fhir.attachments import attachment_faults
from reporting.conformance.fhir.definitions import r4
from reporting.conformance.fhir.outside import class_faults
from reporting.conformance.fhir.references import Index, entry_faults, identifier_faults, reference_faults
from reporting.conformance.fhir.walk import Found, Where, place
from reporting.context import Fault

Json = dict[str, Any]


def r5_faults(bundle: Json) -> Iterator[Fault]:
    """Elements, cardinalities and types by the classes; empty values, references, attachments and identifiers by us."""
    yield from class_faults(bundle, (None, "Bundle"), "R5")
    index = Index.of(bundle, r4())  # the types that we emit have the same names in both
    for where, value in _objects(bundle, (None, "Bundle")):
        if not value or any(one in (None, "", [], {}) for one in value.values()):
            yield Fault("empty", "FHIR R5 2.1.3.0 no empty elements", f"{place(where)}: an empty element")
        found = Found(where, value, None, bundle)
        if isinstance(value.get("reference"), str):
            yield from reference_faults(found, index, own=True)
        if "contentType" in value:
            yield from attachment_faults(value, where)
        if "system" in value and "value" in value:
            yield from identifier_faults(found, copied=True)
    yield from entry_faults(bundle)


def _objects(value: Any, where: Where) -> Iterator[tuple[Where, Json]]:
    """Every object, with its place."""
    if isinstance(value, dict):
        yield where, value
        for name, below in value.items():
            yield from _objects(below, (where, name))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _objects(below, (*where[:2], number))
