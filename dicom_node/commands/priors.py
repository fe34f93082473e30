"""`wetread priors`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def priors(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="Settings file.")] = Path("node.yaml"),
) -> None:
    """Show what was fetched for comparison. The priors of a study, and what the model saw then and now."""
    from dicom_node import priors_view

    raise typer.Exit(priors_view.show(config, study))
