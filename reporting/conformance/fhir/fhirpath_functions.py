"""The steps of a FHIRPath: members, variables, and the functions that R4's invariants use (FHIRPath 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from reporting.conformance.fhir.fhirpath_values import (
    NOTHING,
    Constant,
    Environment,
    Fixed,
    Path,
    Values,
    boolean,
    distinct,
    itself,
    truth,
)
from reporting.conformance.fhir.narrative import is_narrative

_PRIMITIVES: Final = frozenset({"canonical", "uri", "url", "string", "code", "id", "markdown"})
_CHOICES: Final = frozenset({"value", "timing"})  # those that the invariants name
_UCUM: Final = "http://unitsofmeasure.org"


def variable(name: str) -> Path:
    """``%resource``, ``%rootResource``, ``%ucum`` and ``$this``."""
    known: dict[str, Path] = {
        "%resource": Fixed(lambda _, env: [env.resource]),
        "%rootResource": Fixed(lambda _, env: [env.root]),
        "%ucum": Constant([_UCUM]),
        "$this": lambda values, env: [env.this] if env.this is not None else values,
    }
    return known[name]


def member(path: Path, name: str) -> Path:
    """The children of this name; of a choice (``value``), whichever type it has."""
    chosen = name in _CHOICES

    def find(values: Values, env: Environment) -> Values:
        found: Values = []
        for node in values if path is itself else path(values, env):
            if type(node) is dict:
                child = node.get(name)
                if child is None and chosen:
                    child = _choice(node, name)
                if type(child) is list:
                    found += [one for one in child if one is not None]
                elif child is not None:
                    found.append(child)
        return found

    return find


def _choice(node: dict[str, Any], name: str) -> Any:
    size = len(name)
    for key, value in node.items():
        if key[:size] == name and key[size : size + 1].isupper():
            return value
    return None


def _whole(test: Callable[[Values], bool]) -> Callable[[Path], Path]:
    """A function that asks something of all values together."""
    return lambda path: lambda values, env: boolean(test(path(values, env)))


def _where(path: Path, criterion: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        return [one for one in path(values, env) if truth(criterion([one], Environment(env.resource, env.root, env.held, one)))]

    return run


def _select(path: Path, projection: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        return [
            found
            for one in path(values, env)
            for found in projection([one], Environment(env.resource, env.root, env.held, one))
        ]

    return run


def _all(path: Path, criterion: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        return boolean(
            all(truth(criterion([one], Environment(env.resource, env.root, env.held, one))) for one in path(values, env))
        )

    return run


def _not(path: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        held = truth(path(values, env))
        return NOTHING if held is None else boolean(not held)

    return run


def _text(test: Callable[[str, Any], Any]) -> Callable[[Path, Path], Path]:
    """A function of one text and one argument; nothing of nothing, and of what is no text."""

    def function(path: Path, argument: Path) -> Path:
        def run(values: Values, env: Environment) -> Values:
            found, given = path(values, env), argument(values, env)
            return [test(found[0], given[0])] if len(found) == 1 and given and isinstance(found[0], str) else NOTHING

        return run

    return function


def _intersect(path: Path, other: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        found = path(values, env)
        wanted = other(values, env) if found else NOTHING
        shared = [one for one in found if one in wanted]
        return distinct(shared) if shared else NOTHING

    return run


def _descendants(path: Path) -> Path:
    return lambda values, env: [below for one in path(values, env) for below in _below(one)]


def _below(node: Any) -> Iterator[Any]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        if not isinstance(child, list):
            yield child
        yield from _below(child)


def _trace(path: Path, *_: Path) -> Path:
    return path


def _to_string(path: Path) -> Path:
    return lambda values, env: [str(one) for one in path(values, env)[:1]]


FUNCTIONS: Final[dict[str, Callable[..., Path]]] = {
    "exists": _whole(bool),
    "empty": _whole(lambda values: not values),
    "hasValue": _whole(lambda values: len(values) == 1 and not isinstance(values[0], dict)),
    "isDistinct": _whole(lambda values: len(distinct(values)) == len(values)),
    "allFalse": _whole(lambda values: not any(values)),
    "htmlChecks": _whole(lambda values: all(map(is_narrative, values))),
    "count": lambda path: lambda values, env: [len(path(values, env))],
    "first": lambda path: lambda values, env: path(values, env)[:1],
    "not": _not,
    "where": _where,
    "select": _select,
    "all": _all,
    "startsWith": _text(str.startswith),
    "contains": _text(lambda text, part: part in text),
    "substring": _text(lambda text, start: text[start:]),
    "intersect": _intersect,
    "descendants": _descendants,
    "trace": _trace,
    "toString": _to_string,
}


def _is_type(path: Path, name: str) -> Path:
    def run(values: Values, env: Environment) -> Values:
        found = path(values, env)
        return [isinstance(found[0], dict) and found[0].get("resourceType") == name] if len(found) == 1 else NOTHING

    return run


def _as_type(path: Path, name: str) -> Path:
    if name in _PRIMITIVES:
        return lambda values, env: [one for one in path(values, env) if isinstance(one, str)]
    return lambda values, env: [one for one in path(values, env) if isinstance(one, dict) and one.get("resourceType") == name]


OF_TYPE: Final[dict[str, Callable[[Path, str], Path]]] = {"is": _is_type, "as": _as_type}
