"""`wetread models`: import, pull, verify and list model bundles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Table
from rich.text import Text

from dicom_node import models_pull
from dicom_node.errors import SettingsError
from dicom_node.models_known import TOKENIZER_KIND, KnownModel, copy_help
from dicom_node.settings import PHANTOM
from dicom_node.terminal import console
from inference.bundle_folders import is_bundle
from inference.bundles import MANIFEST, PHANTOM_MARK, Bundle, open_bundle, verify_bundle
from inference.errors import BundleError
from inference.phantoms import bundle_folder

_OWN_OPTIONS: Final = {"biomedclip": ("text_tower",), "clip": (), "biomedgpt": ("bpe", "image_size")}  # by kind
_SHIPPED: Final = ("biomedclip", "biomedgpt")  # kinds of the phantom bundles


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a checkpoint may need said: ``bpe`` and ``image_size`` for biomedgpt, ``text_tower`` for biomedclip."""

    name: str | None = None
    bpe: Path | None = None
    image_size: int | None = None
    text_tower: Path | None = None


@dataclass(frozen=True, slots=True)
class PullOptions:
    """``how``: only say what to copy by hand. The rest as the options of the command are named."""

    revision: str | None = None
    repository: str | None = None
    name: str | None = None
    image_size: int | None = None
    how: bool = False


def import_model(kind: str, path: Path, out: Path, options: ImportOptions) -> int:
    """Convert a downloaded checkpoint into a bundle. Raises SettingsError for arguments, BundleError for the checkpoint."""
    if kind not in _OWN_OPTIONS:
        raise SettingsError(f"kind {kind!r}: allowed: {', '.join(_OWN_OPTIONS)}")
    if not path.exists():
        raise SettingsError(f"{path}: no such file or folder; download the checkpoint and give its path here")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"--out {out}: is there already and is not empty; a bundle's folder is made new")
    for owner, names in _OWN_OPTIONS.items():
        for option in names:
            if kind != owner and getattr(options, option) is not None:
                raise SettingsError(f"--{option.replace('_', '-')} belongs to {owner}, not to {kind}")
    if is_bundle(path) and options != ImportOptions():
        raise SettingsError(f"{path}: is a bundle already and is copied as it is; leave the options out")
    _show_made(_import(kind, path, out, options))
    return 0


def pull_model(name: str, out: Path, options: PullOptions) -> int:
    """Download a model and make a bundle of it.

    Raises SettingsError for arguments, RemoteError for the hub, BundleError for what was downloaded.
    """
    model = models_pull.chosen(name, out, options.repository)
    screen = console()
    if options.how:
        screen.print(copy_help(name, model, out), markup=False, soft_wrap=True)
        return 0
    if model.kind != "biomedgpt" and options.image_size is not None:
        raise SettingsError(f"--image-size belongs to the biomedgpt models, not to {name}")
    if is_bundle(out):
        return _already_pulled(out, model, options.revision)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"--out {out}: is there already and is not empty; a bundle's folder is made new")
    pulled = models_pull.download(name, model, out, options.revision)
    _make(pulled, out, options)
    pulled.remove()
    screen.print(
        f"For a machine without internet: copy the whole folder {out} there; wetread models verify {out} checks it.",
        markup=False,
        soft_wrap=True,
    )
    return 0


def verify(folders: Sequence[str]) -> int:
    """Compare each bundle's files with their sha256. Returns 1 where one differs or cannot be opened."""
    out = console()
    faults = 0
    for folder in (folder for named in folders for folder in _named(named)):
        try:
            bundle = open_bundle(folder)
            verify_bundle(bundle)
        except BundleError as error:
            faults += 1
            out.print(Text.assemble(("FAILED  ", "bold red"), str(error)), soft_wrap=True)
        else:
            words = f"{folder}: {bundle.card.name} {bundle.card.version}, {len(bundle.files)} files as they were made"
            out.print(Text.assemble(("ok      ", "green"), words), soft_wrap=True)
    return 1 if faults else 0


def show_list(folder: Path | None) -> int:
    """List the shipped bundles and those in ``folder``. Returns 1 where one cannot be opened."""
    if folder is not None and not folder.is_dir():
        raise SettingsError(f"{folder}: no such folder")
    out = console()
    bundles: list[Bundle] = []
    faults = 0
    for place in (*_named(PHANTOM), *_bundles_in(folder)):
        try:
            bundles.append(open_bundle(place))
        except BundleError as error:
            faults += 1
            out.print(Text.assemble(("FAILED  ", "bold red"), str(error)), soft_wrap=True)
    out.print(_table(bundles))
    return 1 if faults else 0


def _make(pulled: models_pull.Pulled, out: Path, options: PullOptions) -> None:
    if pulled.kind == TOKENIZER_KIND:
        from inference.drafting.importing import convert_tokenizer

        convert_tokenizer(pulled.folder, out)
        console().print(f"Made {out}. Give it with --bpe to `wetread models import biomedgpt`.", markup=False, soft_wrap=True)
        return
    wishes = ImportOptions(options.name, image_size=options.image_size, text_tower=pulled.text_tower)
    _show_made(_import(pulled.kind, pulled.folder, out, wishes, pulled.source))


def _already_pulled(out: Path, model: KnownModel, revision: str | None) -> int:
    """What is there stays: its commit is on record in its card."""
    bundle = open_bundle(out)
    repository, _, rest = bundle.card.source.partition("@")
    if repository != model.repository.name or (revision and not rest.startswith(revision)):
        raise SettingsError(f"--out {out}: holds {bundle.card.source}; choose another folder, or remove this one")
    return verify([str(out)])


def _import(kind: str, path: Path, out: Path, options: ImportOptions, source: str | None = None) -> Bundle:
    if kind == "biomedgpt":
        from inference.drafting.importing import import_biomedgpt  # torch loads only here

        return import_biomedgpt(path, out, bpe=options.bpe, name=options.name, image_size=options.image_size, source=source)
    from inference.triage.checkpoints import import_biomedclip, import_clip

    if kind == "clip":
        return import_clip(path, out, name=options.name, source=source)
    return import_biomedclip(path, out, name=options.name, text_tower=options.text_tower, source=source)


def _show_made(bundle: Bundle) -> None:
    screen = console()
    screen.print(_table([bundle]))
    screen.print(f"Made {bundle.folder}. Name this folder under `readings` of the settings.", markup=False, soft_wrap=True)


def _named(named: str) -> tuple[Path, ...]:
    return tuple(bundle_folder(kind) for kind in _SHIPPED) if named == PHANTOM else (Path(named),)


def _bundles_in(folder: Path | None) -> Iterator[Path]:
    """The folder itself where it is a bundle, else the bundles directly in it."""
    if folder is None:
        return
    if (folder / MANIFEST).is_file():
        yield folder
        return
    yield from sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def _table(bundles: Sequence[Bundle]) -> Table:
    """One block per bundle: names, licences and uses are sentences, too long for columns."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for bundle in bundles:
        for name, value in _facts(bundle):
            table.add_row(
                Text(name, "dim"), Text(value, "bold" if name == "bundle" else "yellow" if value == PHANTOM_MARK else "")
            )
        table.add_row("", "")
    return table


def _facts(bundle: Bundle) -> Iterator[tuple[str, str]]:
    card = bundle.card
    yield "bundle", f"{card.name} {card.version} ({card.kind})"
    if card.phantom:
        yield "", PHANTOM_MARK
    yield "folder", str(bundle.folder)
    yield "source", card.source
    yield "licence", card.licence
    yield "intended use", card.intended_use
    yield "use modes", ", ".join(card.allowed_modes) or "none without a recorded permission"
    yield "digest", bundle.digest
