"""What routes make of a study, and why: before they are live, for a page or a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.reading_json import from_json
from dicom_node.routing import Judgement, Routes, StudyFacts
from dicom_node.storage.database import Database
from dicom_node.storage.instances import instances_of
from dicom_node.storage.results import ResultRow, results_of
from dicom_node.study_facts import study_facts


@dataclass(frozen=True, slots=True)
class Trial:
    """One route or result rule against one study. ``holds``: every condition of it does."""

    name: str
    holds: bool
    why: tuple[Judgement, ...]
    destinations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """``route``: the first that holds, which decides. ``results``: None where the node has not read the study."""

    study: str
    route: str
    reading: str
    priority: str
    destinations: tuple[str, ...]
    tried: tuple[Trial, ...]
    results: tuple[Trial, ...] | None


def judge(study: str, facts: StudyFacts, routes: Routes, result: ResultRow | None) -> Verdict:
    """What the routes make of a study, and the result rules of its latest result. Raises StorageError."""
    route = routes.match(facts)
    tried = tuple(
        Trial(one.name, one is route, tuple(one.when.judge(facts)), one.destinations)
        for one in routes.routes[: routes.routes.index(route) + 1]
    )
    held = None
    if result is not None:
        reading = from_json(result.reading_json)
        judged = [(rule, tuple(rule.when.judge(reading, route.name))) for rule in routes.results]
        held = tuple(Trial(rule.name, all(one.holds for one in why), why, rule.destinations) for rule, why in judged)
    return Verdict(study, route.name, route.reading, route.priority.value, route.destinations, tried, held)


def judge_stored(study: str, db: Database, path: Callable[[str], Path], routes: Routes, at: datetime) -> Verdict:
    """The same for a study of the node's store. ``path``: where the file of a row's path lies; ``at``: local time.

    Raises SettingsError where there is no such study, StorageError.
    """
    with db.read() as conn:
        rows, results = instances_of(conn, study), results_of(conn, study)
    if not rows:
        raise SettingsError(f"{study}: neither a file nor a study of the node's store")
    return judge(study, study_facts(rows, at, path), routes, results[0] if results else None)
