"""Routes: which study gets which reading, at what priority, and where its results go.

The first rule whose every condition holds decides. A rule without conditions holds always; the file must end with one, so
that no study is left without an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dicom_node.errors import SettingsError


class PriorityName(StrEnum):
    """How soon a study is read; the job table works strictly in this order."""

    STAT = "STAT"
    URGENT = "urgent"
    ROUTINE = "routine"
    RESEARCH = "research"


PRIORITY: Final = {PriorityName.STAT: 0, PriorityName.URGENT: 10, PriorityName.ROUTINE: 20, PriorityName.RESEARCH: 30}


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What rules may ask of a study: defined terms in upper case, each as the set over its instances."""

    modalities: frozenset[str]
    body_parts: frozenset[str]
    calling_aes: frozenset[str]
    requested_priorities: frozenset[str]  # Requested Procedure Priority (0040,1003): STAT, HIGH, ROUTINE, MEDIUM, LOW


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Conditions(_Frozen):
    """All named conditions must hold; a condition holds when the study has any of its values."""

    modality: frozenset[str] = frozenset()
    body_part: frozenset[str] = frozenset()
    calling_ae: frozenset[str] = frozenset()
    requested_priority: frozenset[str] = frozenset()

    @field_validator("modality", "body_part", "requested_priority", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return _listed(value, str.upper)

    @field_validator("calling_ae", mode="before")
    @classmethod
    def _exact(cls, value: Any) -> Any:
        return _listed(value, str.strip)

    def hold(self, study: StudyFacts) -> bool:
        pairs = (
            (self.modality, study.modalities),
            (self.body_part, study.body_parts),
            (self.calling_ae, study.calling_aes),
            (self.requested_priority, study.requested_priorities),
        )
        return all(not wanted or wanted & found for wanted, found in pairs)


class Route(_Frozen):
    name: str = Field(min_length=1, max_length=64)
    when: Conditions = Conditions()
    reading: str
    priority: PriorityName = PriorityName.ROUTINE
    destinations: tuple[str, ...] = ()


class _RoutesFile(_Frozen):
    routes: tuple[Route, ...] = Field(min_length=1)


class Routes:
    """Validated routes, in order."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes

    def match(self, study: StudyFacts) -> Route:
        """The first route that holds; the last always does."""
        return next(route for route in self.routes if route.when.hold(study))


def load_routes(file: Path, *, readings: set[str], destinations: set[str]) -> Routes:
    """Read routes and check every name they use.

    Raises SettingsError naming the file, the route and what is allowed.
    """
    try:
        parsed = _RoutesFile.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except FileNotFoundError as error:
        raise SettingsError(f"{file}: no such routes file (key 'routes' of the settings)") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        lines = (f"{file}: {'.'.join(map(str, f['loc'])) or 'top level'}: {_plain(f)}" for f in error.errors())
        raise SettingsError("\n".join(lines)) from error
    _check_names(file, parsed.routes, readings, destinations)
    return Routes(parsed.routes)


def default_routes(readings: set[str], destinations: set[str]) -> Routes:
    """Where no routes file is named: everything gets the first reading and goes to every destination."""
    route = Route(name="everything", reading=sorted(readings)[0], destinations=tuple(sorted(destinations)))
    return Routes((route,))


def _check_names(file: Path, routes: tuple[Route, ...], readings: set[str], destinations: set[str]) -> None:
    names = [route.name for route in routes]
    for route in routes:
        where = f"{file}: route {route.name!r}"
        if names.count(route.name) > 1:
            raise SettingsError(f"{where}: the name is used twice")
        if route.reading not in readings:
            raise SettingsError(f"{where}: reading {route.reading!r} is not in the settings; there are: {_list(readings)}")
        for name in route.destinations:
            if name not in destinations:
                raise SettingsError(f"{where}: destination {name!r} is not in the settings; there are: {_list(destinations)}")
    if routes[-1].when != Conditions():
        raise SettingsError(f"{file}: the last route ({names[-1]!r}) must have no `when`, so that every study gets an answer")
    for route in routes[:-1]:
        if route.when == Conditions():
            raise SettingsError(f"{file}: route {route.name!r} has no `when`, so the routes after it are never reached")


def _listed(value: Any, change: Any) -> Any:
    values = [value] if isinstance(value, str) else value
    return [change(v) if isinstance(v, str) else v for v in values] if isinstance(values, list | tuple) else values


def _plain(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        allowed = Conditions.model_fields if "when" in fault["loc"] else Route.model_fields
        return f"not a key of a route; allowed here: {', '.join(allowed)}"
    return str(fault["msg"])


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
