"""`wetread embed` and `wetread search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings; the shipped phantom models without.")]
Reading = Annotated[str | None, typer.Option(help="A name under `readings` of the settings; default: the first.")]
Index = Annotated[Path, typer.Option("--index", help="The index folder.")]


def embed(
    source: Annotated[Path, typer.Option("--source", help="Folder of DICOM files and plain images, searched whole.")],
    index: Index,
    config: Config = None,
    reading: Reading = None,
    modality: Annotated[str, typer.Option(help="Modality of plain images (PNG, JPEG), such as DX.")] = "",
) -> None:
    """Put pictures into an index for `search`. The same command again adds what is new."""
    from dicom_node.research import retrieval

    raise typer.Exit(retrieval.embed(source, index, config, reading, modality))


def search(
    index: Index,
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="Look for pictures like this one instead.")] = None,
    top: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show.")] = 10,
    modality: Annotated[str, typer.Option(help="Only these, such as CR,DX.")] = "",
    body_part: Annotated[str, typer.Option(help="Only these, such as CHEST.")] = "",
    since: Annotated[str, typer.Option(help="Studies from this day on, YYYY-MM-DD.")] = "",
    until: Annotated[str, typer.Option(help="Studies up to this day.")] = "",
    config: Config = None,
    reading: Reading = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Find pictures of an index. By words, or by another picture."""
    from dicom_node.errors import SettingsError
    from dicom_node.research import retrieval

    if (text is None) == (image is None):
        raise SettingsError("give either a text or --image, not both")
    query = retrieval.Query(text, image, retrieval.filter_of(modality, body_part, since, until), top)
    raise typer.Exit(retrieval.search(index, query, config, reading, as_json=as_json))
