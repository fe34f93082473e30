"""What HL7's definitions say of R4's resources and data types (4.0.1), from ``r4.json``, which ``cut`` makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from reporting.conformance.fhir.fhirpath import Rule, compile_path
from reporting.conformance.fhir.formats import FORMS

COLLECTED: Final = frozenset({"Reference", "Attachment", "Identifier"})

Form = tuple[tuple[type, ...], Callable[[Any], bool], str]


@dataclass(frozen=True, slots=True)
class Element:
    """What may stand at one place.

    ``kind``: a primitive, a data type, "Resource", or the path of an element defined in place. ``many``: a list in JSON.
    ``choice``: the element that this is one type of, as *value* of *valueQuantity*. ``sound``: whether
    a primitive of one value, which most leaves are, is right in every way; None for others. ``values``: the codes of a required
    binding. ``targets``: types that a reference may lead to, None where any. ``rules``: invariants of this place and its type.
    """

    kind: str
    many: bool
    choice: str | None
    form: Form | None
    sound: Callable[[Any], bool] | None
    values: frozenset[str] | None
    targets: frozenset[str] | None
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The elements of one type. ``required``: of each tuple of names, one has to be there."""

    elements: dict[str, Element]
    required: tuple[tuple[str, ...], ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Definitions:
    """``groups`` by path; ``resources``: those that are judged; ``others``: the rest of R4; ``schema``: HL7's JSON schema."""

    groups: dict[str, Group]
    resources: frozenset[str]
    others: frozenset[str]
    schema: dict[str, Any]


@cache
def r4() -> Definitions:
    """Read once, on the first use."""
    held = json.loads(files(__package__).joinpath("r4.json").read_text("utf-8"))
    rules = {
        path: tuple(Rule(key, words, compile_path(text)) for key, text, words in rows) for path, rows in held["rules"].items()
    }
    values = {url: frozenset(codes) for url, codes in held["values"].items()}
    groups = {path: _group(path, rows, rules, values) for path, rows in held["elements"].items()}
    return Definitions(groups, frozenset(held["resources"]), frozenset(held["others"]), held["schema"])


def _group(path: str, rows: dict[str, Any], rules: dict[str, tuple[Rule, ...]], values: dict[str, frozenset[str]]) -> Group:
    elements = {name: _element(f"{path}.{row.get('choice', name)}", row, rules, values) for name, row in rows.items()}
    needed: dict[str, list[str]] = {}
    for name, row in rows.items():
        if row.get("min"):
            needed.setdefault(row.get("choice", name), []).append(name)
    return Group(elements, tuple(map(tuple, needed.values())), rules.get(path, ()))


def _element(path: str, row: dict[str, Any], rules: dict[str, tuple[Rule, ...]], values: dict[str, frozenset[str]]) -> Element:
    kind = row["type"]
    targets, form, codes = row.get("to"), FORMS.get(kind), values.get(row.get("values", ""))
    own = () if kind == path else rules.get(path, ())
    return Element(
        kind,
        row.get("many", False),
        row.get("choice"),
        form,
        _sound(form, codes) if form and not own and not row.keys() & {"many", "choice"} else None,
        codes,
        frozenset(targets) if targets else None,
        (*own, *rules.get(kind, ())),
    )


def _sound(form: Form, codes: frozenset[str] | None) -> Callable[[Any], bool]:
    types, holds, _ = form
    if codes is not None:
        return lambda value: type(value) is str and value in codes and holds(value)
    if types == (str,):
        return lambda value: type(value) is str and value != "" and holds(value)
    return lambda value: type(value) in types and holds(value)
