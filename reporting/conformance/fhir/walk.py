"""One walk over an R4 resource: its elements against the definitions (R4 2.6, 2.24), leaf by leaf, and its invariants."""

from __future__ import annotations

import marshal
import re
from dataclasses import dataclass, field
from typing import Any, Final

from reporting.conformance.fhir.definitions import COLLECTED, Definitions, Element, Group
from reporting.conformance.fhir.fhirpath import Rule
from reporting.conformance.fhir.fhirpath_values import Environment
from reporting.context import Fault

Json = dict[str, Any]
Where = tuple[Any, ...]  # (what is above, name) or (what is above, name, number in a list)
Shape = tuple[object, ...]

_EMPTY: Final[tuple[Any, ...]] = (None, "", {}, [])
_PLAIN: Final = 2  # the last version of marshal's format in which equal values are equal bytes
_NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}|ofType\([A-Za-z]+\)")
_STRUCTURE: Final = "FHIR R4 2.6.2 JSON"
_DATATYPES: Final = "FHIR R4 2.24 data types"


def place(where: Where | None) -> str:
    """The place in words of FHIRPath; a name that is none is not repeated, since it may say anything."""
    if where is None:
        return ""
    above, name = place(where[0]), str(where[1])
    shown = name if _NAME.fullmatch(name) else "(a name that is none)"
    number = f"[{where[2]}]" if len(where) > 2 else ""
    return f"{above}.{shown}{number}" if above else f"{shown}{number}"


@dataclass(frozen=True, slots=True)
class Found:
    """A value of a type that is judged further: where it is, the value, and the types that its place lets it refer to."""

    where: Where
    value: Json
    targets: frozenset[str] | None
    holder: Json


@dataclass(frozen=True, slots=True)
class Judged:
    """A resource: where it is, itself, its names and list lengths in order, and whether no fault was found in it."""

    where: Where
    resource: Json
    shape: Shape
    sound: bool


@dataclass(slots=True)
class Walk:
    """What one walk found. ``judged``: each resource that it could judge.

    ``once``: a value that stood at the same element of another resource and was sound is not judged again, which halves the
    time; what refers to nothing is then told for the first place only.
    """

    definitions: Definitions
    once: bool
    faults: list[Fault] = field(default_factory=list)
    found: dict[str, list[Found]] = field(default_factory=lambda: {kind: [] for kind in COLLECTED})
    judged: list[Judged] = field(default_factory=list)
    unjudged: set[str] = field(default_factory=set)
    _shape: list[object] = field(default_factory=list)
    _sound: dict[tuple[int, bytes], Shape] = field(default_factory=dict)
    _repeats: bool = False

    def fault(self, rule: str, where: Where, what: str, clause: str = _STRUCTURE) -> None:
        self.faults.append(Fault(rule, clause, f"{place(where)}: {what}"))

    def resource(self, node: Any, where: Where | None = None, root: Json | None = None) -> None:
        """Judge a resource, and every resource in it, each by the definitions of its own type."""
        kind = node.get("resourceType") if isinstance(node, dict) else None
        here: Where = (where, f"ofType({kind})") if where else (None, kind if isinstance(kind, str) else "resource")
        if kind in self.definitions.others:
            self.unjudged.add(kind)
        elif not isinstance(kind, str) or kind not in self.definitions.resources:
            self.fault("resource-type", here, "no resource type of FHIR R4", "FHIR R4 2.6.1 resourceType")
        else:
            outer, self._shape, repeats = self._shape, [kind], self._repeats
            self._repeats = self.once and kind != "Bundle" and "contained" not in node
            group, faults = self.definitions.groups[kind], len(self.faults)
            environment = Environment(node, root or node, {})
            self._object(node, group, here, environment)
            self._rules(node, group.rules, here, environment)
            self.judged.append(Judged(here, node, tuple(self._shape), len(self.faults) == faults))
            self._shape, self._repeats = outer, repeats

    def _object(self, node: Json, group: Group, where: Where, environment: Environment) -> None:
        self._shape.append(tuple(node))
        elements = group.elements
        chosen: list[str] = []
        for name, child in node.items():
            element = elements.get(name)
            if element is None:
                self._other(name, child, node, group, (where, name), environment)
            elif element.sound is None or not element.sound(child):
                if element.choice is not None:
                    self._choice(element.choice, chosen, (where, name))
                self._child(child, element, node, (where, name), environment)
        for names in group.required:
            if names[0] not in node and not any(name in node or f"_{name}" in node for name in names):
                self.fault("cardinality-min", (where, names[0]), "is missing", "FHIR R4 2.28 cardinality")

    def _choice(self, name: str, chosen: list[str], where: Where) -> None:
        if name in chosen:
            self.fault("choice", where, "a second value of a choice of types", "FHIR R4 2.6.2.2 choice of types")
        chosen.append(name)

    def _child(self, child: Any, element: Element, node: Json, where: Where, environment: Environment) -> None:
        key = (id(element), marshal.dumps(child, _PLAIN)) if self._repeats and element.form is None else None
        if key is not None and (known := self._sound.get(key)) is not None:
            self._shape += known
            return
        start, faults = len(self._shape), len(self.faults)
        if not element.many:
            self._value(child, element, where, environment)
        elif type(child) is list and child:
            self._shape.append(len(child))
            self._list(child, element, node.get(f"_{where[1]}"), where, environment)
        else:
            self._no_list(child, where)
        if key is not None and len(self.faults) == faults:
            self._sound[key] = tuple(self._shape[start:])

    def _list(self, child: list[Any], element: Element, beside: Any, where: Where, environment: Environment) -> None:
        for number, one in enumerate(child):
            here = (*where, number)
            if one is None and element.form and isinstance(beside, list) and beside[number : number + 1] not in ([], [None]):
                continue  # a primitive with nothing but extensions (R4 2.6.2.3)
            self._value(one, element, here, environment)

    def _no_list(self, child: Any, where: Where) -> None:
        if child is None or child == []:
            self.fault("empty", where, "an empty element", "FHIR R4 2.6.2 no empty elements")
        else:
            self.fault("cardinality-max", where, "one value instead of a list")

    def _value(self, value: Any, element: Element, where: Where, environment: Environment) -> None:
        form = element.form
        if value in _EMPTY:
            self.fault("empty", where, "an empty element", "FHIR R4 2.6.2 no empty elements")
        elif form is not None:
            self._primitive(value, element, form, where)
        elif type(value) is not dict:
            self._wrong_json(value, where, "an object")
        elif element.kind == "Resource":
            self.resource(value, where, None if self._in_bundle(where) else environment.root)
        else:
            self._complex(value, element, where, environment)
        if element.rules:
            self._rules(value, element.rules, where, environment)

    def _complex(self, value: Json, element: Element, where: Where, environment: Environment) -> None:
        if element.kind in COLLECTED:
            self.found[element.kind].append(Found(where, value, element.targets, environment.resource))
        self._object(value, self.definitions.groups[element.kind], where, environment)

    @staticmethod
    def _in_bundle(where: Where) -> bool:
        """An entry's resource stands for itself; a contained one belongs to what contains it."""
        return bool(where[1] != "contained")

    def _primitive(self, value: Any, element: Element, form: Any, where: Where) -> None:
        types, holds, words = form
        if type(value) not in types:
            self._wrong_json(value, where, words)
        elif not holds(value):
            self.fault("format", where, f"is not {words}", _DATATYPES)
        elif element.values is not None and value not in element.values:
            self.fault("required-binding", where, "a code outside its required value set", "FHIR R4 4.1.5 required binding")

    def _wrong_json(self, value: Any, where: Where, wanted: str) -> None:
        if type(value) is list:
            self.fault("cardinality-max", where, "a list where one value may stand")
        else:
            self.fault("json-type", where, f"a JSON {_json_name(value)} instead of {wanted}")

    def _other(self, name: str, child: Any, node: Json, group: Group, where: Where, environment: Environment) -> None:
        """A name that the definitions do not have: the resource's type, the extensions of a primitive, or a fault."""
        if name == "resourceType" and node is environment.resource:
            return
        beside = group.elements.get(name[1:]) if name[:1] == "_" else None
        if beside is None or beside.form is None:
            self.fault("unknown-element", where, "is no element of R4 here", "FHIR R4 2.6.2, R4 JSON schema")
        else:
            self._extensions(child, beside, where, environment)

    def _extensions(self, child: Any, beside: Element, where: Where, environment: Environment) -> None:
        listed = isinstance(child, list)
        if listed is not beside.many or child in ({}, [], None):
            self.fault("cardinality-max", where, "extensions in another form than the primitive's")
            return
        for one in child if listed else (child,):
            if isinstance(one, dict):
                self._object(one, self.definitions.groups["Element"], where, environment)
            elif one is not None:
                self._wrong_json(one, where, "an object")

    def _rules(self, node: Any, rules: tuple[Rule, ...], where: Where, environment: Environment) -> None:
        path, broken = None, False
        for rule in rules:
            if rule.path is not path:  # txt-1 and txt-2 are one expression
                path, broken = rule.path, rule.broken(node, environment)
            if broken:
                self.fault(rule.key, where, rule.words, f"FHIR R4 invariant {rule.key}")


def _json_name(value: object) -> str:
    names = {str: "string", bool: "Boolean", int: "number", float: "number", dict: "object"}
    return names.get(type(value), "value")


def walked(value: Json, definitions: Definitions, *, once: bool = False) -> Walk:
    """The walk over a resource or a Bundle of them."""
    walk = Walk(definitions, once)
    walk.resource(value)
    return walk
