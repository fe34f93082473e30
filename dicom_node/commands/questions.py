"""`wetread ask`, `wetread draft` and `wetread summarize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings; the shipped phantom models, and no store, without.")
]
Reading = Annotated[str | None, typer.Option(help="A name under `readings` of the settings; default: the first.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
Modality = Annotated[str, typer.Option(help="Modality of plain images (PNG, JPEG), such as DX.")]


def ask(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY|IMAGE... QUESTION",
            help="DICOM files, folders, pictures, or (with --config) a Study Instance UID of the store; then the question.",
        ),
    ],
    choices: Annotated[str, typer.Option(help='Answer with one of these, as in --choices "yes,no"; each gets its score.')] = "",
    config: Config = None,
    reading: Reading = None,
    as_json: AsJson = False,
) -> None:
    """Ask the drafting model a question about a picture. An answer of a model, not a diagnosis."""
    from dicom_node.errors import SettingsError
    from dicom_node.questions import run

    if len(what) < 2:
        raise SettingsError('give what to look at and then the question: wetread ask film.dcm "is there a pneumothorax?"')
    question = run.Question(tuple(what[:-1]), what[-1], run.choices_of(choices))
    raise typer.Exit(run.ask(question, config, reading, as_json=as_json))


def draft(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="DICOM files, folders or pictures.")],
    config: Config = None,
    reading: Reading = None,
    modality: Modality = "",
    as_json: AsJson = False,
) -> None:
    """Write a draft of each picture or study. Each sentence with its confidence and what triage says against it."""
    from dicom_node.questions import run

    raise typer.Exit(run.draft(tuple(images), config, reading, modality, as_json=as_json))


def summarize(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A text file, a DICOM structured report, or - for a pipe.")],
    config: Config = None,
    reading: Reading = None,
    as_json: AsJson = False,
) -> None:
    """Shorten findings to an impression. Or a report to its summary. A model's text, not a diagnosis."""
    from dicom_node.questions import run

    raise typer.Exit(run.summarize(file, config, reading, as_json=as_json))
