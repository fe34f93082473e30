"""`wetread routes`: check a routes file, and try it on studies before it is live."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Routes: check them, try them on studies.")

Config = Annotated[Path, typer.Option("--config", "-c", help="The node's settings.")]
RoutesFile = Annotated[Path | None, typer.Option("--routes", help="A routes file to try; default: that of the settings.")]


@app.command()
def check(config: Config = Path("node.yaml"), routes: RoutesFile = None) -> None:
    """Tell every mistake of a routes file."""
    from dicom_node.app import routes_of
    from dicom_node.settings import load_settings

    found = routes_of(load_settings(config), routes)
    typer.echo(f"{len(found.routes)} routes and {len(found.results)} rules on results: all can be used")


@app.command("test")
def try_out(
    studies: Annotated[list[str], typer.Argument(help="Study Instance UIDs of the node's store, DICOM files or folders.")],
    config: Config = Path("node.yaml"),
    routes: RoutesFile = None,
    at: Annotated[datetime | None, typer.Option(help="When the study is complete, local time; default: now.")] = None,
    calling_ae: Annotated[str, typer.Option(help="For files: who sends them.")] = "",
    called_ae: Annotated[str, typer.Option(help="For files: to which title they are sent.")] = "",
    host: Annotated[str, typer.Option(help="For files: the sender's address.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Show which route each study takes and why, and which rules on results hold for what was read of it."""
    from dicom_node import routes_view
    from dicom_node.app import routes_of
    from dicom_node.settings import load_settings

    settings = load_settings(config)
    asked = routes_view.Asked(at or datetime.now().astimezone(), calling_ae, called_ae, host)
    raise typer.Exit(routes_view.run(studies, settings, routes_of(settings, routes), asked, as_json=as_json))
