"""`wetread findings check`: every fault of a catalogue, by file and line, and what a model makes of its words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from dicom_node.errors import SettingsError
from dicom_node.settings import PHANTOM, defaults_folder
from dicom_node.terminal import console
from inference.bundles import open_bundle, verify_bundle
from inference.options import TRIAGE_KINDS
from inference.phantoms import bundle_folder
from inference.triage.catalogue import FindingsCatalogue, load_catalogue
from inference.triage.catalogue_file import catalogue_faults

if TYPE_CHECKING:
    from inference.triage.prompt_check import PromptModel

FAULTY = 2  # exit status: the user must change something


def run(files: Sequence[str], bundle: str | None) -> int:
    """Check the catalogues. Returns 2 where one has a fault. Raises BundleError where the bundle cannot be opened."""
    model = _open_model(bundle) if bundle else None
    faulty = [_check(catalogue_path(name), model) for name in files]
    return FAULTY if any(faulty) else 0


def catalogue_path(name: str) -> Path:
    """The file of a catalogue that ships, by its name, or a file of the user's own."""
    shipped = defaults_folder() / "findings" / f"{name}.yaml"
    if shipped.is_file() and shipped.parent == defaults_folder() / "findings":
        return shipped
    if Path(name).is_file():
        return Path(name)
    known = ", ".join(sorted(path.stem for path in (defaults_folder() / "findings").glob("*.yaml")))
    raise SettingsError(f"{name}: no such catalogue file; those that ship are {known}")


def bundle_path(name: str) -> Path:
    return bundle_folder("biomedclip") if name == PHANTOM else Path(name)


def _check(path: Path, model: PromptModel | None) -> bool:
    """Whether the catalogue has a fault; prints what was found."""
    out = console()
    faults = catalogue_faults(path)
    for fault in faults:
        place = f"{path}:{fault.line}: " if fault.line else f"{path}: "
        out.print(Text.assemble(("FAULT  ", "bold red"), place, fault.words), soft_wrap=True)
    if faults:
        return True
    catalogue = load_catalogue(path)
    lines = list(_model_lines(path, catalogue, model)) if model else []
    for _, line in lines:
        out.print(line, soft_wrap=True)
    if any(fault for fault, _ in lines):
        return True
    out.print(Text.assemble(("ok     ", "green"), f"{path}: {_summary(catalogue)}"), soft_wrap=True)
    return False


def _model_lines(path: Path, catalogue: FindingsCatalogue, model: PromptModel) -> Iterator[tuple[bool, Text]]:
    from inference.triage.prompt_check import check_prompts  # torch loads only here

    for note in check_prompts(catalogue, model):
        mark = ("FAULT  ", "bold red") if note.fault else ("warn   ", "yellow")
        yield note.fault, Text.assemble(mark, f"{path}: {note.words}")


def _summary(catalogue: FindingsCatalogue) -> str:
    kinds = catalogue.scope.kinds
    told = f", {len(kinds.kinds)} kinds of image" if kinds else ""
    return (
        f"{catalogue.name} {catalogue.version}, {len(catalogue.findings)} findings{told}, "
        f"{len(catalogue.all_texts)} texts, digest {catalogue.digest[:12]}"
    )


def _open_model(name: str) -> PromptModel:
    import torch

    from inference.triage.prompt_check import PromptModel

    bundle = open_bundle(bundle_path(name), kinds=TRIAGE_KINDS)
    verify_bundle(bundle)
    return PromptModel(bundle, torch.device("cpu"))
