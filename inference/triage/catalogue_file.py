"""Reading a catalogue file: YAML, checked key by key, with each fault told in words and by its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from inference.errors import CatalogueError
from inference.triage.catalogue_form import (
    AggregationFile,
    CatalogueFile,
    CodeFile,
    EntryFile,
    EntryScopeFile,
    KindFile,
    ModelScopeFile,
    ScopeFile,
)
from inference.unique_keys import UniqueKeys

_FORMS: Final[dict[str, type[BaseModel]]] = {
    "code": CodeFile,
    "site": CodeFile,
    "also": CodeFile,
    "findings": EntryFile,
    "aggregation": AggregationFile,
    "scope": ScopeFile,
    "model": ModelScopeFile,
    "kinds": KindFile,
}
_NAMED: Final = {"findings": "finding", "kinds": "kind"}  # lists whose items have a key
_Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """``line`` counts from 1; 0 where the file as a whole is meant. ``words``: where, what is wrong, what is allowed."""

    line: int
    words: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.words}" if self.line else self.words


def read_catalogue_file(path: Path) -> CatalogueFile:
    """Parse and check. Raises CatalogueError with every fault."""
    found = _parse(path)
    if isinstance(found, CatalogueFile):
        return found
    raise CatalogueError(f"{path}: {'; '.join(map(str, found))}")


def catalogue_faults(path: Path) -> tuple[Fault, ...]:
    """Every fault of the file, in the order of its lines; none where it can be used."""
    found = _parse(path)
    return () if isinstance(found, CatalogueFile) else tuple(sorted(found, key=lambda fault: fault.line))


def _parse(path: Path) -> CatalogueFile | list[Fault]:
    try:
        loader = UniqueKeys(path.read_text("utf-8"))
        node = loader.get_single_node()
        data = loader.construct_document(node) if node else None
    except (OSError, UnicodeDecodeError) as error:
        return [Fault(0, f"cannot be read ({error})")]
    except yaml.YAMLError as error:
        return [_yaml_fault(error)]
    if node is None or not isinstance(data, dict):
        return [Fault(0, f"a catalogue is a mapping with the keys {_keys(CatalogueFile)}")]
    try:
        return CatalogueFile.model_validate(data)
    except ValidationError as error:
        return [Fault(_line(node, fault["loc"]), _words(data, dict(fault))) for fault in error.errors(include_url=False)]


def _yaml_fault(error: yaml.YAMLError) -> Fault:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    return Fault(mark.line + 1 if mark else 0, f"not valid YAML: {problem}")


def _line(node: yaml.Node, loc: _Place) -> int:
    """The line of the value at ``loc``, or of the nearest thing above it that the file holds."""
    line = node.start_mark.line
    for part in loc:
        inner = _inner(node, part)
        if inner is None:
            break
        line, node = inner
    return int(line) + 1


def _inner(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    """The line on which ``part`` is written, and what is written there."""
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark.line, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    return None


def _words(data: dict[str, Any], fault: dict[str, Any]) -> str:
    """One fault as: where it is, what is wrong, what is allowed."""
    where = _where(data, fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key; allowed: {_keys(_form_at(fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"{where}: this key is missing"
    words = str(fault["msg"]).removeprefix("Value error, ").replace("Input should", "should").replace("valid tuple", "list")
    words = words.replace("Tuple should", "the list should").replace(" after validation", "")
    given = fault["input"]
    return f"{where}: {words}" + (f" (it is {given!r})" if isinstance(given, str | int | float) else "")


def _where(data: Any, loc: Sequence[str | int]) -> str:
    """``loc`` as a person says it: "finding 3 (pleural_effusion): code.value"."""
    parts: list[str] = []
    plain: list[str] = []
    here: Any = data
    for before, part in zip(("", *map(str, loc)), loc, strict=False):
        here = _step(here, part)
        if isinstance(part, int) and before in _NAMED:
            key = here.get("key", "") if isinstance(here, dict) else ""
            parts += [".".join(plain[:-1]), f"{_NAMED[before]} {part + 1}" + (f" ({key})" if key else "")]
            plain = []
        else:
            plain.append(str(part))
    return ": ".join(filter(None, [*parts, ".".join(plain)])) or "the catalogue"


def _step(here: Any, part: str | int) -> Any:
    try:
        return here[part]
    except (KeyError, IndexError, TypeError):
        return None


def _form_at(loc: _Place) -> type[BaseModel]:
    named = [part for part in loc if isinstance(part, str)]
    if named[:1] == ["findings"] and named[-1] == "scope":
        return EntryScopeFile
    return _FORMS.get(named[-1], CatalogueFile) if named else CatalogueFile


def _keys(form: type[BaseModel]) -> str:
    return ", ".join(form.model_fields)
