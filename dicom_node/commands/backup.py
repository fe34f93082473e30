"""`wetread backup` and `wetread restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", "-c", help="The settings file (see config/node.yaml).")]


def backup(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the backups, on another disk; each further one adds what is new.")
    ],
    config: Config = Path("node.yaml"),
    keep: Annotated[int | None, typer.Option(min=1, help="Delete all but so many of the newest backups there.")] = None,
) -> None:
    """Copy the database and all files. Consistently, while the node runs."""
    from dicom_node.backup import save

    raise typer.Exit(save.run(config, out, keep))


def restore(
    source: Annotated[Path, typer.Option("--from", help="Folder that was given to `wetread backup --out`.")],
    config: Config = Path("node.yaml"),
    name: Annotated[str | None, typer.Option("--at", help="Name of a backup there; default: the newest.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare the backup with its digests; restore nothing.")] = False,
) -> None:
    """Put a backup back. On an empty machine, with the node stopped; started, it goes on where the backup was made."""
    from dicom_node.backup import restore as restoring

    raise typer.Exit(restoring.run(config, source, name, check))
