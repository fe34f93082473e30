"""`wetread models`: bundles of models, made, fetched, checked and listed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Model bundles: pull, import, verify, list.")

Out = Annotated[Path, typer.Option("--out", help="The bundle's folder, made new.")]
Name = Annotated[str | None, typer.Option("--name", help="The bundle's name, if not the model's own.")]
ImageSize = Annotated[
    int | None, typer.Option("--image-size", min=16, help="Pixels a side, where a biomedgpt checkpoint does not say.")
]


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="biomedclip · clip · biomedgpt")],
    path: Annotated[Path, typer.Argument(help="What you downloaded: a checkpoint file or folder; or a bundle, to copy it.")],
    out: Out,
    bpe: Annotated[Path | None, typer.Option("--bpe", help="Folder with dict.txt, encoder.json and vocab.bpe.")] = None,
    name: Name = None,
    image_size: ImageSize = None,
    text_tower: Annotated[
        Path | None, typer.Option("--text-tower", help="Folder with the BERT config.json and tokenizer of biomedclip.")
    ] = None,
) -> None:
    """Convert a downloaded checkpoint once into a bundle that loads with no network and no pickle.

    biomedgpt: a fairseq .pt, or a folder in Hugging Face form. biomedclip: an open_clip folder. clip: an open_clip folder, a
    CLIPModel folder of transformers, or OpenAI's bare state. Weights as .bin, .pt or safetensors, whole or in shards.
    """
    from dicom_node import models_view

    raise typer.Exit(models_view.import_model(kind, path, out, models_view.ImportOptions(name, bpe, image_size, text_tower)))


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="biomedclip · clip-vit-b16 · biomedgpt-base · -instruct · biomedgpt-bpe")],
    out: Out,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Commit, branch or tag, if not the one on record for the model.")
    ] = None,
    repository: Annotated[
        str | None, typer.Option("--repository", help="OWNER/NAME on the hub, if not the model's usual one.")
    ] = None,
    name: Name = None,
    image_size: ImageSize = None,
    how: Annotated[bool, typer.Option("--how", help="Only say what to copy to a machine without internet.")] = False,
) -> None:
    """Download a model from the hub and make a bundle of it: only the needed files, checked, resumed if broken off.

    Of biomedclip and clip-vit-b16 the commit on record is taken. Of the biomedgpt models none is on record: what `main` is at
    the time is looked up once, kept while the pull is under way, and written into bundle.json; give --revision COMMIT to
    choose it yourself. The tiny, medium and large biomedgpt are published as fairseq files only: the command says how to go on.
    """
    from dicom_node import models_view

    wishes = models_view.PullOptions(revision, repository, name, image_size, how)
    raise typer.Exit(models_view.pull_model(model, out, wishes))


@app.command()
def verify(folders: Annotated[list[str], typer.Argument(help="Bundle folders, or `phantom`.")]) -> None:
    """Compare every file of the bundles with its sha256."""
    from dicom_node import models_view

    raise typer.Exit(models_view.verify(folders))


@app.command("list")
def list_(
    folder: Annotated[Path | None, typer.Argument(help="A folder of bundles; the shipped ones are always listed.")] = None,
) -> None:
    """List bundles: what they are, where from, and what they may be used for."""
    from dicom_node import models_view

    raise typer.Exit(models_view.show_list(folder))
