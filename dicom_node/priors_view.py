"""`wetread priors`: the latest reading of a study beside those of its priors."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from dicom_node import app
from dicom_node.errors import SettingsError
from dicom_node.priors.comparing import Compared, Earlier, compare
from dicom_node.reading_json import from_json
from dicom_node.settings import load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.priors import Prior, priors_of
from dicom_node.storage.results import ResultRow, results_of

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
        earlier = [one for prior in found if (one := _earlier(db, prior, latest.reading_name)) is not None]
    finally:
        db.close()
    if not earlier:
        console.print("no prior has a result to compare with")
        return 1
    _show_findings(console, compare(from_json(latest.reading_json), earlier))
    return 0


def _latest(db: Database, study_uid: str) -> tuple[ResultRow | None, tuple[Prior, ...]]:
    with db.read() as conn:
        return next(iter(results_of(conn, study_uid)), None), priors_of(conn, study_uid)


def _earlier(db: Database, prior: Prior, reading_name: str) -> Earlier | None:
    with db.read() as conn:
        row = next((one for one in results_of(conn, prior.study_uid) if one.reading_name == reading_name), None)
    return None if row is None else Earlier(prior.study_uid, prior.study_date, from_json(row.reading_json))


def _show_priors(console: Console, found: tuple[Prior, ...]) -> None:
    for one in found:
        console.print(f"prior {one.study_uid} of {one.study_date or 'an unknown day'}: {one.state}", highlight=False)


def _show_findings(console: Console, compared: tuple[Compared, ...]) -> None:
    table = Table("finding", "prior of", "then", "probability then", "compared", box=None)
    for one in compared:
        then = one.decision.value if one.decision else ""
        probability = f"{one.probability:.2f}" if one.probability is not None else ""
        table.add_row(one.key, one.prior.study_date, then, probability, one.change.value)
    console.print(table)
    console.print(_NOTE, highlight=False)
