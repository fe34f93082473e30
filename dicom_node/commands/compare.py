"""`wetread models compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    bundle_a: Annotated[str, typer.Argument(help="A bundle's folder, or `phantom`: BiomedCLIP, CLIP or BiomedGPT.")],
    bundle_b: Annotated[str, typer.Argument(help="The bundle to compare it with.")],
    source: Annotated[Path, typer.Option("--source", help="Folder of DICOM files and plain images, searched whole.")],
    catalogue: Annotated[
        str, typer.Option("--catalogue", help="A catalogue that ships, such as chest_xray, or a file.")
    ] = "chest_xray",
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV: file (or sop_instance_uid), patient, one column for each finding.")
    ] = None,
    names: Annotated[Path | None, typer.Option("--names", help="YAML: what the names in the column `labels` mean.")] = None,
    modality: Annotated[str, typer.Option(help="Modality of plain images; default: the catalogue's first.")] = "",
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Settings, for device and precision.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything here, as JSON.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write everything here, as CSV.")] = None,
) -> None:
    """Ask two models of the same studies and show where they agree, differ and, with labels, which is right."""
    from dicom_node.research import compare as comparison

    task = comparison.Task(bundle_a, bundle_b, source, catalogue, config, labels, names, modality)
    raise typer.Exit(comparison.run(task, json_file, csv_file))
