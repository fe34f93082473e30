"""The judges of R4 structure that are not ours: HL7's JSON schema, and the R4B classes of fhir.resources.

They are asked of what the walk found nothing in: what it refuses they would only tell again, in other words. Both take many
times as long as the walk, which judges type, format and code of every leaf by the same definitions. So of our own results they
judge each *shape* once (which elements there are, and how many): no value of a shape that they passed can fail there and pass
the walk. Anybody else's files are judged by them in full, each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from reporting.conformance.fhir.definitions import r4
from reporting.conformance.fhir.walk import Shape, Where, place
from reporting.context import Fault

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

Json = dict[str, Any]

_MOST_SHAPES: Final = 4096
_SHOWN: Final = 5  # faults of one resource that a judge may tell


class Shapes:
    """The shapes that both judges have passed; names of elements only, no value."""

    def __init__(self) -> None:
        self._passed: set[Shape] = set()

    def __contains__(self, shape: Shape) -> bool:
        return shape in self._passed

    def add(self, shape: Shape) -> None:
        if len(self._passed) >= _MOST_SHAPES:
            self._passed.clear()
        self._passed.add(shape)


@cache
def own_shapes() -> Shapes:
    """Those of this process's own results."""
    return Shapes()


def structure_faults(resource: Json, where: Where) -> Iterator[Fault]:
    """What the two judges say of one R4 resource; resources in it stand for themselves, and are left out."""
    alone = _alone(resource)
    yield from schema_faults(alone, where)
    yield from class_faults(alone, where)


def schema_faults(resource: Json, where: Where) -> Iterator[Fault]:
    """HL7's JSON schema of 4.0.1."""
    for number, error in enumerate(_validator(resource["resourceType"]).iter_errors(resource)):
        if number == _SHOWN:
            return
        at = _below(where, tuple(error.absolute_path))
        yield Fault("json-schema", "FHIR R4 JSON schema", f"{place(at)}: breaks the schema's {error.validator!r}")


def class_faults(resource: Json, where: Where, release: str = "R4B") -> Iterator[Fault]:
    """The classes of fhir.resources for this release: R4B (4.3, whose resources judged here are those of 4.0.1) or R5."""
    from pydantic import ValidationError

    try:
        _model(resource["resourceType"], release).model_validate(resource)
    except ValidationError as error:
        for one in error.errors(include_input=False, include_url=False, include_context=False)[:_SHOWN]:
            at = _below(where, tuple(one["loc"]))
            yield Fault("fhir-classes", f"FHIR {release[:2]}, fhir.resources", f"{place(at)}: {one['type']}")


@cache
def _model(kind: str, release: str) -> Any:
    from importlib import import_module

    package = "fhir.resources.R4B" if release == "R4B" else "fhir.resources"
    return import_module(package).get_fhir_model_class(kind)


@cache
def _validator(kind: str) -> Validator:
    """Imported here: only the first result of a process needs it."""
    from jsonschema import Draft6Validator

    return Draft6Validator({"$ref": f"#/definitions/{kind}", "definitions": r4().schema})


def _alone(resource: Json) -> Json:
    kept = {name: value for name, value in resource.items() if name != "contained"}
    if resource["resourceType"] == "Bundle" and isinstance(resource.get("entry"), list):
        kept["entry"] = [_without_resource(one) for one in resource["entry"]]
    return kept


def _without_resource(entry: Any) -> Any:
    """The entry itself; one that holds nothing else still holds its resource, as its address."""
    if not isinstance(entry, dict) or "resource" not in entry:
        return entry
    kept = {name: value for name, value in entry.items() if name != "resource"}
    return kept or {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000000"}


def _below(where: Where | None, path: tuple[Any, ...]) -> Where:
    for step in path:
        numbered = isinstance(step, int) and where is not None and len(where) == 2
        where = (*where, step) if numbered and where is not None else (where, step)
    return where or (None, "resource")
