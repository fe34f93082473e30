"""What FHIRPath computes with: lists of JSON values, their truth and their sameness (FHIRPath 4.5, 6.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Values = list[Any]
Path = Callable[[Values, "Environment"], Values]

TRUE: Final[Values] = [True]
FALSE: Final[Values] = [False]
NOTHING: Final[Values] = []


class Environment(NamedTuple):
    """``resource``: the one that holds the element; ``root``: that, or what contains it; ``this``: ``$this`` in a criterion.

    ``held``: what paths that start at the resource gave, which is the same wherever in it they are asked.
    """

    resource: Any
    root: Any
    held: dict[int, Values]
    this: Any = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A path that is a literal."""

    values: Values

    def __call__(self, _: Values, __: Environment) -> Values:
        return self.values


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    """A path that starts at the resource, and not at the value that the expression is asked of."""

    path: Path

    def __call__(self, values: Values, env: Environment) -> Values:
        found = env.held.get(id(self))
        if found is None:
            found = env.held[id(self)] = self.path(values, env)
        return found


def fixed(path: Path, *parts: Path) -> Path:
    """``path``, computed once for each resource where all that it is made of is fixed."""
    if all(isinstance(part, Constant | Fixed) for part in parts) and any(isinstance(part, Fixed) for part in parts):
        return Fixed(path)
    return path


def itself(values: Values, _: Environment) -> Values:
    """The start of a path: what it is applied to."""
    return values


def boolean(value: bool) -> Values:
    return TRUE if value else FALSE


def truth(values: Values) -> bool | None:
    """None: not known. A single value that is no Boolean counts as true (FHIRPath 4.5)."""
    return values[0] is not False if len(values) == 1 else None


def same(a: Any, b: Any) -> bool:
    return a == b and (type(a) is bool) == (type(b) is bool)


def distinct(values: Values) -> Values:
    """Each value once, in order; what was read from one JSON text has one ``repr`` where it is the same."""
    found: dict[str, Any] = {}
    for one in values:
        found.setdefault(repr(one), one)
    return list(found.values())
