"""FHIRPath, as far as the invariants of FHIR R4's definitions use it, compiled to closures (FHIRPath 1.2.0, R4 2.9).

HL7's expressions are run as they stand in the definitions; one that needs more of the language than there is here is refused
when it is compiled. JSON values stand for nodes, so primitives have no types of their own: ``as(uri)`` lets any text pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from reporting.conformance.fhir import fhirpath_functions as functions
from reporting.conformance.fhir.fhirpath_operators import OPERATORS
from reporting.conformance.fhir.fhirpath_values import Constant, Environment, Path, fixed, itself

_TOKEN: Final = re.compile(r"\s*(?:'(?:[^'\\]|\\.)*'|\d+(?:\.\d+)?|[$%]?[A-Za-z_][A-Za-z0-9_]*|<=|>=|!=|[-+|&.()=<>,])")
_WORDS: Final = frozenset({"implies", "or", "xor", "and", "in", "is", "as"})
# How tightly an operator binds, loosest first (FHIRPath 6.9)
_BINDING: Final = {
    **{"implies": 1, "or": 2, "xor": 2, "and": 3, "in": 4, "=": 5, "!=": 5},
    **{"<": 6, ">": 6, "<=": 6, ">=": 6, "|": 7, "&": 9, "+": 9, "-": 9},
}


class UnknownPathError(Exception):
    """The expression uses FHIRPath that is not supported here, or is none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One invariant: its key, what it says in words, and its compiled expression."""

    key: str
    words: str
    path: Path

    def broken(self, node: Any, environment: Environment) -> bool:
        """False where it holds, or where it cannot be decided: an empty result is no *false* (FHIRPath 4.5)."""
        found = self.path([node], environment)
        return len(found) == 1 and found[0] is False


@cache
def compile_path(expression: str) -> Path:
    """Raise UnknownPathError where the expression is beyond what is supported."""
    parser = _Parser(_tokens(expression))
    path = parser.expression(0)
    if parser.peek() is not None:
        raise UnknownPathError(f"{expression!r}: {parser.peek()!r} does not belong there")
    return path


def _tokens(expression: str) -> list[str]:
    found: list[str] = []
    at = 0
    expression = expression.rstrip()
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise UnknownPathError(f"{expression!r}: cannot be read from character {at} on")
        found.append(match[0].strip())
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._at = tokens, 0

    def peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str:
        token = self.peek()
        if token is None:
            raise UnknownPathError("the expression ends too early")
        self._at += 1
        return token

    def _expect(self, token: str) -> None:
        found = self._next()
        if found != token:
            raise UnknownPathError(f"{found!r} instead of {token!r}")

    def expression(self, loosest: int) -> Path:
        left = self._steps()
        while (sign := self.peek()) is not None and _BINDING.get(sign, -1) > loosest:
            self._next()
            right = self.expression(_BINDING[sign])
            left = fixed(OPERATORS[sign](left, right), left, right)
        return left

    def _steps(self) -> Path:
        path = self._term()
        while self.peek() == ".":
            self._next()
            path = self._after(path, self._next())
        return path

    def _term(self) -> Path:
        token = self._next()
        if token == "(":
            path = self.expression(0)
            self._expect(")")
            return path
        if token[0] == "'":
            return Constant([token[1:-1].replace("\\'", "'")])
        if token[0].isdigit():
            return Constant([float(token) if "." in token else int(token)])
        if token in ("true", "false"):
            return Constant([token == "true"])
        if token[0] in "$%":
            return functions.variable(token)
        return self._after(itself, token)

    def _after(self, path: Path, name: str) -> Path:
        if not name[0].isalpha() or (name in _WORDS and self.peek() != "("):
            raise UnknownPathError(f"{name!r} is no step")
        if self.peek() != "(":
            return fixed(functions.member(path, name), path)
        self._next()
        if name in functions.OF_TYPE:
            argument: Any = self._next()
            self._expect(")")
            return fixed(functions.OF_TYPE[name](path, argument), path)
        if name not in functions.FUNCTIONS:
            raise UnknownPathError(f"{name}() is not supported")
        arguments = self._arguments()
        return fixed(functions.FUNCTIONS[name](path, *arguments), path, *arguments)

    def _arguments(self) -> list[Path]:
        found: list[Path] = []
        while self.peek() != ")":
            found.append(self.expression(0))
            if self.peek() == ",":
                self._next()
        self._next()
        return found
