"""`wetread purge`: remove by hand what retention may remove, or only show it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", "-c", help="The node's settings.")]


def purge(
    config: Config = Path("node.yaml"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go, and what stays and why.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Remove what retention allows. What is older than `retention` says and needed no more; a running node does this itself."""
    from dicom_node import purge_view

    raise typer.Exit(purge_view.run(config, dry_run=dry_run, as_json=as_json))
