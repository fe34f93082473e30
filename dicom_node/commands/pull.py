"""`wetread pull`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", "-c", help="Settings file.")]


def pull(
    source: Annotated[str, typer.Option("--from", help="A name under `peers` of the settings, or study.archive.")],
    study: Annotated[list[str] | None, typer.Option(help="Study Instance UIDs.")] = None,
    study_file: Annotated[Path | None, typer.Option(help="File with one Study Instance UID a line.")] = None,
    accession: Annotated[Path | None, typer.Option(help="File with one accession number a line.")] = None,
    patient_file: Annotated[Path | None, typer.Option(help="File with one Patient ID a line.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="Only studies with one of these, such as CR.")] = None,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Studies from this day on.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Studies up to this day.")] = None,
    into: Annotated[Path | None, typer.Option(help="A folder instead of the node's store.")] = None,
    list_file: Annotated[Path | None, typer.Option("--list", help="Where the list is kept; by default among the data.")] = None,
    priority: Annotated[str, typer.Option(help="Of the readings: STAT · urgent · routine · research.")] = "research",
    hours: Annotated[list[str] | None, typer.Option(help="Work only then, local time, such as 20:00-06:00.")] = None,
    per_hour: Annotated[float, typer.Option(min=0, help="Studies an hour at most; 0: no limit.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be fetched.")] = False,
    config: Config = Path("node.yaml"),
) -> None:
    """Fetch studies from an archive. The same command again goes on where it ended, and skips what is here."""
    from dicom_node.errors import SettingsError
    from dicom_node.pull import run
    from dicom_node.pull.criteria import Criteria, read_values
    from dicom_node.routing import PriorityName

    studies = (*(study or ()), *(read_values(study_file, ["studyinstanceuid", "study_uid"]) if study_file else ()))
    criteria = Criteria(
        studies,
        read_values(accession, ["accessionnumber", "accession"]) if accession else (),
        read_values(patient_file, ["patientid", "patient_id"]) if patient_file else (),
        tuple(modality or ()),
        since.date() if since else None,
        until.date() if until else None,
    )
    if criteria == Criteria():
        raise SettingsError("say which studies: --study, --accession, --patient-file, --modality or --since")
    if priority not in list(PriorityName):
        raise SettingsError(f"--priority {priority!r}: one of {', '.join(PriorityName)}")
    wish = run.Wish(source, criteria, into, list_file, PriorityName(priority), tuple(hours or ()), per_hour)
    raise typer.Exit(run.pull(wish, config, dry_run=dry_run))
