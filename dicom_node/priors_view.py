"""`wetread priors`: the latest reading of a study beside those of its priors."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from dicom_node import app
from dicom_node.errors import SettingsError
from dicom_node.reading_json import from_json, priors_from_json
from dicom_node.settings import load_settings
from dicom_node.storage.compared import kept_priors
from dicom_node.storage.database import Database
from dicom_node.storage.priors import Prior, priors_of
from dicom_node.storage.results import ResultRow, results_of
from reporting.comparison import Comparison, PriorReading, compare, prior_reading

_NOTE = "The same model read both; no radiologist compared the images. Seen or not seen is what the model decided each time."


def show(config: Path, study_uid: str) -> int:
    """Returns 0, or 1 where there is nothing to compare. Raises SettingsError, StorageError."""
    db = app.open_database(load_settings(config))
    console = Console()
    try:
        latest, found = _latest(db, study_uid)
        if latest is None:
            raise SettingsError(f"study {study_uid} has no result on this node; look at `wetread jobs list`")
        _show_priors(console, found)
        earlier = _priors(db, latest, found)
    finally:
        db.close()
    if not earlier:
        console.print("no prior has a result to compare with")
        return 1
    _show_findings(console, compare(from_json(latest.reading_json), earlier, ""))
    return 0


def _latest(db: Database, study_uid: str) -> tuple[ResultRow | None, tuple[Prior, ...]]:
    with db.read() as conn:
        return next(iter(results_of(conn, study_uid)), None), priors_of(conn, study_uid)


def _priors(db: Database, latest: ResultRow, found: tuple[Prior, ...]) -> tuple[PriorReading, ...]:
    """Those that its documents were made with; else, as they stand now."""
    with db.read() as conn:
        kept = kept_priors(conn, latest.study_uid, latest.revision, latest.reading_name)
    if kept is not None and (priors := priors_from_json(kept)):
        return priors
    return tuple(one for prior in found if (one := _earlier(db, prior, latest.reading_name)) is not None)


def _earlier(db: Database, prior: Prior, reading_name: str) -> PriorReading | None:
    with db.read() as conn:
        row = next((one for one in results_of(conn, prior.study_uid) if one.reading_name == reading_name), None)
    if row is None:
        return None
    return prior_reading(prior.study_uid, prior.study_date, "", row.revision, from_json(row.reading_json))


def _show_priors(console: Console, found: tuple[Prior, ...]) -> None:
    for one in found:
        console.print(f"prior {one.study_uid} of {one.study_date or 'an unknown day'}: {one.state}", highlight=False)


def _show_findings(console: Console, compared: tuple[Comparison, ...]) -> None:
    table = Table("finding", "prior of", "then", "probability then", "compared", box=None)
    for prior in compared:
        for one in prior.findings:
            then = one.decision.value if one.decision else ""
            probability = f"{one.probability:.2f}" if one.probability is not None else ""
            why = f" ({one.obstacle.value})" if one.obstacle else ""
            table.add_row(one.key, prior.study_date, then, probability, one.change.value + why)
    console.print(table)
    console.print(_NOTE, highlight=False)
