"""`wetread conformance`: judge anybody's files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def conformance(
    files: Annotated[list[Path], typer.Argument(help="DICOM, FHIR R4 JSON or HL7 v2 files, or folders of them.")],
    ours: Annotated[bool, typer.Option("--ours", help="Also hold them to what WetRead promises of its own documents.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, the last one a summary.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Tell only of files at fault.")] = False,
) -> None:
    """Judge DICOM, FHIR and HL7 files. Tell which rules of the standards they break, each with its clause.

    References between the given DICOM files are followed. Exit status: 0 no fault, 1 a fault, 2 a file cannot be judged.
    """
    from dicom_node.conformance import run

    raise typer.Exit(run(files, ours=ours, as_json=as_json, quiet=quiet))
