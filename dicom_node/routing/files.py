"""The routes file: read, checked against the settings, and asked.

The first route whose every condition holds decides. A route without conditions holds always; the file must end with one, so
that no study is left without an answer. Rules on results come on top of that: each that holds adds its destinations.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from dicom_node.errors import SettingsError
from dicom_node.frozen import Frozen
from dicom_node.routing.conditions import Conditions, listed
from dicom_node.routing.facts import StudyFacts
from dicom_node.routing.priorities import PriorityName
from dicom_node.routing.results import ResultConditions, ResultRule
from dicom_node.written import first_faults, in_words, read_yaml
from inference.reading import Reading
from reporting.context import DocumentKind


@dataclass(frozen=True, slots=True)
class Names:
    """What routes may name: readings, and each destination with the kinds of documents it takes.

    ``archive``: whether there is one to fetch priors from. ``findings``: the keys of the catalogues; None where they are not
    known, and every name passes.
    """

    readings: frozenset[str]
    destinations: Mapping[str, frozenset[DocumentKind]]
    archive: bool = True
    findings: frozenset[str] | None = None


class PriorsWish(Frozen):
    """Which earlier studies of its patient are fetched from the archive before a study is read; see config/routes.yaml."""

    count: int = Field(2, ge=1, le=10)
    modality: Literal["same", "any"] = "same"
    body_part: Literal["same", "any"] = "same"
    years: float = Field(5, gt=0, le=100)
    wait_seconds: float = Field(60, gt=0, le=3600)


class Route(Frozen):
    """``documents``: which kinds go to the destinations; none: those each destination takes. ``priors``: None fetches none."""

    name: str = Field(min_length=1, max_length=64)
    when: Conditions = Conditions()
    reading: str
    priority: PriorityName = PriorityName.ROUTINE
    destinations: tuple[str, ...] = ()
    documents: Annotated[tuple[DocumentKind, ...], listed(str.strip)] = ()
    priors: PriorsWish | None = None


class _RoutesFile(Frozen):
    routes: tuple[Route, ...] = Field(min_length=1)
    results: tuple[ResultRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Routes:
    """Validated routes and rules on results, in order."""

    routes: tuple[Route, ...]
    results: tuple[ResultRule, ...] = ()

    def match(self, study: StudyFacts) -> Route:
        """The first route that holds; the last always does."""
        return next(route for route in self.routes if route.when.hold(study))

    def rules_for(self, reading: Reading, route: str) -> tuple[ResultRule, ...]:
        """Every rule on results that holds for a reading to which ``route`` led."""
        return tuple(rule for rule in self.results if rule.when.hold(reading, route))

    def used_destinations(self) -> frozenset[str]:
        return frozenset(name for one in _both(self) for name in one.destinations)


def load_routes(file: Path, names: Names) -> Routes:
    """Read routes and check every name they use.

    Raises SettingsError naming the file, the route and what is allowed.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError as error:
        raise SettingsError(f"{file}: no such routes file (key 'routes' of the settings)") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    return parse_routes(text, str(file), names)


def parse_routes(text: str, origin: str, names: Names) -> Routes:
    """The same of a text. ``origin``: what messages call it. Raises SettingsError."""
    try:
        parsed = _RoutesFile.model_validate(read_yaml(text))
    except yaml.YAMLError as error:
        raise SettingsError(f"{origin}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        lines = (f"{origin}: {'.'.join(map(str, f['loc'])) or 'top level'}: {_plain(f)}" for f in first_faults(error.errors()))
        raise SettingsError("\n".join(lines)) from error
    for fault in _faults(parsed, names):
        raise SettingsError(f"{origin}: {fault}")
    return Routes(parsed.routes, parsed.results)


def default_routes(names: Names) -> Routes:
    """Where no routes file is named: everything gets the first reading and goes to every destination."""
    route = Route(name="everything", reading=sorted(names.readings)[0], destinations=tuple(sorted(names.destinations)))
    return Routes((route,))


def _faults(parsed: _RoutesFile, names: Names) -> Iterator[str]:
    given = [one.name for one in _both(parsed)]
    for route in parsed.routes:
        if route.reading not in names.readings:
            yield f"route {route.name!r}: reading {route.reading!r} is not in the settings; there are: {_list(names.readings)}"
        if route.priors is not None and not names.archive:
            yield f"route {route.name!r}: `priors` need an archive; name it as `study.archive` of the settings, or remove them"
    for one in _both(parsed):
        what = f"{'route' if isinstance(one, Route) else 'result rule'} {one.name!r}"
        if given.count(one.name) > 1:
            yield f"{what}: the name is used twice"
        for fault in _destination_faults(one, names):
            yield f"{what}: {fault}"
    yield from _order_faults(parsed.routes)
    known = {route.name for route in parsed.routes}
    for rule in parsed.results:
        if rule.when == ResultConditions():
            yield f"result rule {rule.name!r} has no condition; name its destinations in the routes instead"
        for name in sorted(rule.when.route - known):
            yield f"result rule {rule.name!r}: there is no route {name!r}; there are: {_list(known)}"
        for fault in _finding_faults(rule, names.findings):
            yield f"result rule {rule.name!r}: {fault}"


def _both(parsed: _RoutesFile | Routes) -> tuple[Route | ResultRule, ...]:
    return (*parsed.routes, *parsed.results)


def _destination_faults(one: Route | ResultRule, names: Names) -> Iterator[str]:
    for name in one.destinations:
        if name not in names.destinations:
            yield f"destination {name!r} is not in the settings; there are: {_list(names.destinations)}"
        elif odd := set(one.documents) - names.destinations[name]:
            taken = _list(names.destinations[name])
            yield f"destination {name!r} takes no {_list(odd)}; by the settings (`documents`) it takes: {taken}"


def _finding_faults(rule: ResultRule, known: frozenset[str] | None) -> Iterator[str]:
    """A finding that no model is asked for would make a rule that never holds."""
    if known is None:
        return
    for key in sorted(rule.when.finding - known):
        near = difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" There are: {_list(known)}"
        yield f"no catalogue of the settings has a finding {key!r}.{hint}"


def _order_faults(routes: tuple[Route, ...]) -> Iterator[str]:
    if routes[-1].when != Conditions():
        yield f"the last route ({routes[-1].name!r}) must have no `when`, so that every study gets an answer"
    for route in routes[:-1]:
        if route.when == Conditions():
            yield f"route {route.name!r} has no `when`, so the routes after it are never reached"


def _plain(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        where = fault["loc"][:-1]
        model: type[Frozen] = _RoutesFile
        if where:
            on_results = where[0] == "results"
            conditions, whole = (ResultConditions, ResultRule) if on_results else (Conditions, Route)
            model = conditions if "when" in where else whole
        allowed = (field.alias or name for name, field in model.model_fields.items())
        return f"not a key here; allowed: {', '.join(allowed)}"
    return in_words(fault)


def _list(names: Any) -> str:
    return ", ".join(sorted(str(name) for name in names)) or "none"
