"""`wetread drift`: are scanners, and what is read of their images, still as they were?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Drift watch: scanners against their baselines.")

Config = Annotated[Path, typer.Option("--config", "-c", help="The node's settings.")]
Scanner = Annotated[str, typer.Option(help="Only scanners whose label contains this.")]
Reading = Annotated[str, typer.Option(help="Only this reading.")]
All = Annotated[bool, typer.Option("--all", help="All streams; else --scanner or --reading must say which.")]


@app.command()
def show(
    config: Config = Path("node.yaml"),
    scanner: Scanner = "",
    reading: Reading = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Every scanner, how far its baseline is, and its signals. Exit status 1 where there is an alarm."""
    from dicom_node import drift_view

    raise typer.Exit(drift_view.show(config, scanner, reading, as_json=as_json))


@app.command()
def baseline(config: Config = Path("node.yaml"), scanner: Scanner = "", reading: Reading = "", everything: All = False) -> None:
    """Make the newest studies the baseline: what changed was meant (a new detector, another post-processing)."""
    from dicom_node import drift_view

    raise typer.Exit(drift_view.set_baseline(config, scanner, reading, everything=everything))


@app.command()
def reset(config: Config = Path("node.yaml"), scanner: Scanner = "", reading: Reading = "", everything: All = False) -> None:
    """Forget baselines and statistics; the next studies make new ones."""
    from dicom_node import drift_view

    raise typer.Exit(drift_view.reset(config, scanner, reading, everything=everything))
