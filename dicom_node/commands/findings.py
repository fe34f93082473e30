"""`wetread findings`: check, preview and schema of catalogues of findings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Catalogues of findings: check, try on images.")

Bundle = Annotated[str | None, typer.Option("--bundle", help="The model's bundle folder, or `phantom`.")]


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(help="Catalogue files, or names of those that ship, such as chest_xray.")],
    bundle: Bundle = None,
) -> None:
    """Tell every fault of a catalogue by its line; with --bundle, also what the model makes of its words."""
    from dicom_node import findings_check

    raise typer.Exit(findings_check.run(files, bundle))


@app.command()
def preview(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, PNG, JPEG or TIFF images, or folders of them.")],
    catalogue: Annotated[str, typer.Option("--catalogue", help="A catalogue that ships, or a file.")] = "chest_xray",
    bundle: Annotated[str, typer.Option("--bundle", help="The model's bundle folder, or `phantom`.")] = "phantom",
    modality: Annotated[str, typer.Option(help="Modality of plain images; default: the catalogue's first.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> None:
    """Show what a catalogue says of images: which are judged, what each finding gets, and the image that decided."""
    from dicom_node import findings_preview

    raise typer.Exit(findings_preview.run(paths, findings_preview.Choice(catalogue, bundle, modality), as_json=as_json))


@app.command()
def schema() -> None:
    """Print the JSON schema of a catalogue, for an editor."""
    import json

    from inference.triage.catalogue_form import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
