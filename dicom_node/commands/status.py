"""`wetread status`: how the node stands, for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def status(
    config: Annotated[Path, typer.Option("--config", "-c", help="The node's settings.")] = Path("node.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every few seconds until Ctrl-C.")] = False,
    alive: Annotated[
        str | None, typer.Option("--alive", help="Only whether this part lives on this machine: listen · work · deliver · web.")
    ] = None,
) -> None:
    """Show how the node stands. What runs, what waits, and what needs a hand; exit status 1 where something does."""
    from dicom_node import status_view

    if alive is not None:
        raise typer.Exit(status_view.lives(config, alive))
    if watch:
        raise typer.Exit(status_view.watch(config))
    raise typer.Exit(status_view.show(config, as_json=as_json))
