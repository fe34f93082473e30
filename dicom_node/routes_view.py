"""`wetread routes test`: which route a study would take and why, before a routes file is live."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from dicom_node import app
from dicom_node.errors import SettingsError
from dicom_node.routing import Routes, StudyFacts
from dicom_node.settings import Settings
from dicom_node.study_facts import attribute_of
from dicom_node.views.routes import Trial, Verdict, judge, judge_stored


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person says of a study that files cannot tell. ``at``: local time of completion."""

    at: datetime
    calling_ae: str = ""
    called_ae: str = ""
    host: str = ""


def run(places: Sequence[str], settings: Settings, routes: Routes, asked: Asked, *, as_json: bool) -> int:
    """Print a verdict for each study. Raises SettingsError where a place holds none."""
    verdicts = [verdict for place in places for verdict in _verdicts(place, settings, routes, asked)]
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
        return 0
    console = Console(soft_wrap=True, highlight=False)
    for verdict in verdicts:
        for line in _lines(verdict):
            console.print(line)
    return 0


def _verdicts(place: str, settings: Settings, routes: Routes, asked: Asked) -> Iterator[Verdict]:
    path = Path(place)
    if path.exists():
        for study, files in _studies_in(path).items():
            yield judge(study, _facts_of_files(files, asked), routes, None)
    else:
        with closing(app.open_database(settings)) as db:
            yield judge_stored(place, db, app.open_files(settings).path, routes, asked.at)


def _studies_in(path: Path) -> dict[str, list[Path]]:
    """Files by Study Instance UID, one of each series. Raises SettingsError where there is no study."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found: dict[str, dict[str, Path]] = {}
    for file in files:
        value = attribute_of([file])
        study, series = "".join(value("StudyInstanceUID")), "".join(value("SeriesInstanceUID"))
        if study:
            found.setdefault(study, {}).setdefault(series, file)
    if not found:
        raise SettingsError(f"{path}: holds no DICOM file of a study")
    return {study: list(series.values()) for study, series in found.items()}


def _facts_of_files(files: Sequence[Path], asked: Asked) -> StudyFacts:
    value = attribute_of(files)

    def terms(keyword: str) -> frozenset[str]:
        return frozenset(one.strip().upper() for one in value(keyword) if one.strip())

    return StudyFacts(
        modalities=terms("Modality"),
        body_parts=terms("BodyPartExamined"),
        calling_aes=_said(asked.calling_ae),
        requested_priorities=terms("RequestedProcedurePriority"),
        called_aes=_said(asked.called_ae),
        hosts=_said(asked.host),
        attribute=value,
        at=asked.at,
    )


def _said(value: str) -> frozenset[str]:
    return frozenset({value} if value else ())


def _lines(verdict: Verdict) -> Iterator[str]:
    to = ", ".join(verdict.destinations) or "no destination"
    yield f"[bold]{escape(verdict.study)}[/bold]"
    yield f"  route {verdict.route!r}: reading {verdict.reading}, priority {verdict.priority}, to {escape(to)}"
    yield from _trials(verdict.tried, "no condition: holds always")
    if verdict.results is None:
        yield "  rules on results: not tried, the node holds no result of this study"
    else:
        yield "  rules on results, by the latest result:" if verdict.results else "  rules on results: none"
        yield from _trials(verdict.results, "")


def _trials(trials: Iterable[Trial], empty: str) -> Iterator[str]:
    for trial in trials:
        yield f"    {'[green]holds[/green]    ' if trial.holds else '[dim]does not[/dim] '} {escape(trial.name)}"
        for one in trial.why:
            yield f"              {'  ' * one.depth}{'yes' if one.holds else 'no '}  {escape(one.text)}"
        if not trial.why and empty:
            yield f"              {empty}"
