"""`wetread conformance-statement`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", "-c", help="State the AE titles, ports and limits of this node.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write it there instead of showing it.")]


def conformance_statement(config: Config = None, out: Out = None) -> None:
    """Write the DICOM Conformance Statement. By PS3.2, made of the program's own tables."""
    from dicom_node.settings import Settings, load_settings
    from dicom_node.statement import statement

    text = statement(load_settings(config) if config else Settings.model_construct())
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, "utf-8")
