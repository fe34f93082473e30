"""The operators of FHIRPath that R4's invariants use (FHIRPath 6)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from reporting.conformance.fhir.fhirpath_values import (
    FALSE,
    NOTHING,
    TRUE,
    Constant,
    Environment,
    Path,
    Values,
    boolean,
    distinct,
    same,
    truth,
)
from reporting.conformance.fhir.formats import moment


def _and(left: Path, right: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        first = truth(left(values, env))
        if first is False:
            return FALSE
        second = truth(right(values, env))
        return FALSE if second is False else TRUE if first and second else NOTHING

    return run


def _or(left: Path, right: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        first = truth(left(values, env))
        if first:
            return TRUE
        second = truth(right(values, env))
        return TRUE if second else NOTHING if first is None or second is None else FALSE

    return run


def _implies(left: Path, right: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        first = truth(left(values, env))
        if first is False:
            return TRUE
        second = truth(right(values, env))
        return TRUE if second else NOTHING if first is None or second is None else FALSE

    return run


def _xor(left: Path, right: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        first, second = truth(left(values, env)), truth(right(values, env))
        return NOTHING if first is None or second is None else boolean(first is not second)

    return run


def _equals(wanted: bool) -> Callable[[Path, Path], Path]:
    def operator_of(left: Path, right: Path) -> Path:
        if isinstance(right, Constant):
            return _equals_constant(left, right.values[0], wanted)

        def run(values: Values, env: Environment) -> Values:
            a, b = left(values, env), right(values, env)
            if not a or not b:
                return NOTHING
            equal = len(a) == len(b) and all(map(same, a, b))
            return boolean(equal is wanted)

        return run

    return operator_of


def _equals_constant(left: Path, constant: Any, wanted: bool) -> Path:
    def run(values: Values, env: Environment) -> Values:
        found = left(values, env)
        if not found:
            return NOTHING
        return TRUE if (len(found) == 1 and same(found[0], constant)) is wanted else FALSE

    return run


def _compares(holds: Callable[[Any, Any], bool]) -> Callable[[Path, Path], Path]:
    def operator_of(left: Path, right: Path) -> Path:
        def run(values: Values, env: Environment) -> Values:
            a, b = left(values, env), right(values, env)
            pair = _comparable(a[0], b[0]) if len(a) == len(b) == 1 else None
            return NOTHING if pair is None else boolean(holds(*pair))

        return run

    return operator_of


def _comparable(a: Any, b: Any) -> tuple[Any, Any] | None:
    """None where the order is not known: times of another precision, quantities in other units (FHIRPath 6.2)."""
    if isinstance(a, dict) and isinstance(b, dict):
        alike = (a.get("system"), a.get("code", a.get("unit"))) == (b.get("system"), b.get("code", b.get("unit")))
        return _comparable(a["value"], b["value"]) if alike and "value" in a and "value" in b else None
    if isinstance(a, str) and isinstance(b, str):
        return _moments(a, b)
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return (a, b) if numbers else None


def _moments(a: str, b: str) -> tuple[Any, Any] | None:
    first, second = moment(a), moment(b)
    if first is None or second is None:
        return None
    if first[1] == second[1]:
        return first[0], second[0]
    size = min(first[1], second[1], 3)
    pair = tuple((one.year, one.month, one.day)[:size] for one, _ in (first, second))
    return (pair[0], pair[1]) if pair[0] != pair[1] else None


def _membership(left: Path, right: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        a, b = left(values, env), right(values, env)
        return NOTHING if not a else boolean(a[0] in b)

    return run


def _union(left: Path, right: Path) -> Path:
    return lambda values, env: distinct([*left(values, env), *right(values, env)])


def _joins(left: Path, right: Path) -> Path:
    """``&``: text beside text, where nothing counts as an empty text."""

    def run(values: Values, env: Environment) -> Values:
        return ["".join(str(part[0]) if part else "" for part in (left(values, env), right(values, env)))]

    return run


def _plus(left: Path, right: Path) -> Path:
    def run(values: Values, env: Environment) -> Values:
        a, b = left(values, env), right(values, env)
        return [a[0] + b[0]] if a and b and isinstance(a[0], str) is isinstance(b[0], str) else NOTHING

    return run


OPERATORS: Final[dict[str, Callable[[Path, Path], Path]]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
    "=": _equals(True),
    "!=": _equals(False),
    "<": _compares(operator.lt),
    ">": _compares(operator.gt),
    "<=": _compares(operator.le),
    ">=": _compares(operator.ge),
    "in": _membership,
    "|": _union,
    "&": _joins,
    "+": _plus,
}
