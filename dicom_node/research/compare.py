"""`wetread models compare`: two models asked of the same studies, by one catalogue, in one result type; nothing is sent."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dicom_node import logs
from dicom_node.choices import engine_options
from dicom_node.errors import SettingsError
from dicom_node.pictures import Picture, each_picture
from dicom_node.settings import PHANTOM, load_settings
from dicom_node.settings import defaults_folder as defaults
from dicom_node.storage.files import write_whole
from dicom_node.terminal import console
from inference.bundles import Bundle, open_bundle
from inference.comparison import UNKNOWN, Compared, Judged, compare
from inference.errors import LabelsError
from inference.options import DRAFTING_KINDS, EngineOptions, check_options
from inference.phantoms import bundle_folder
from inference.reading import Finding, Frame, Skipped, UseMode
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.heads.labels import Labels, read_labels
from inference.triage.heads.names import read_names
from inference.triage.judge import not_assessable

Ask = Callable[[Sequence[Frame]], tuple[Finding, ...]]
_SHOWN: Final = 12  # flips named on the screen; the files name all


@dataclass(frozen=True, slots=True)
class Task:
    """What is compared. ``a``, ``b``: bundle folders or `phantom`; ``names``: what names in the labels' table mean."""

    a: str
    b: str
    source: Path
    catalogue: str = "chest_xray"
    config: Path | None = None
    labels: Path | None = None
    names: Path | None = None
    modality: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """One of the two, as the result names it. ``precision``: the arithmetic it ran in."""

    name: str
    kind: str
    version: str
    digest: str
    precision: str


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A study's pictures. ``name``: the Study Instance UID, or a plain image's path under the source; never a patient."""

    name: str
    pictures: tuple[Picture, ...]
    files: frozenset[str]


def run(task: Task, json_file: Path | None, csv_file: Path | None) -> int:
    """Ask both, print one table, write the files wished for. Returns 0.

    Raises SettingsError, LabelsError, BundleError and CatalogueError, for the user, and DeviceError.
    """
    if not task.source.exists():
        raise SettingsError(f"--source {task.source}: no such file or folder")
    options = _options(task)
    _, _, catalogue = check_options(options)
    labels = _labels(task, catalogue)
    (first, ask_a), (second, ask_b) = (_load(name, options, catalogue) for name in (task.a, task.b))
    skipped: list[Skipped] = []
    answers = _ask_all(_studies(task.source, task.modality or catalogue.scope.modalities[0], skipped), ask_a, ask_b)
    if not answers.names:
        raise SettingsError(f"--source {task.source}: holds no picture that can be read")
    compared = compare(answers.names, answers.a, answers.b, _known(task, labels, answers.sources))
    _write(json_file, _as_json(first, second, catalogue, compared, len(skipped)))
    _write(csv_file, _as_csv(compared))
    _show((first, second), compared, len(answers.names), len(skipped))
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """Study by study: its name, what each model said, and by what names a table of labels may call its images."""

    names: list[str]
    a: list[tuple[Finding, ...]]
    b: list[tuple[Finding, ...]]
    sources: list[tuple[frozenset[str], frozenset[str]]]  # SOP Instance UIDs, and paths


def _ask_all(studies: Iterator[Study], ask_a: Ask, ask_b: Ask) -> _Answers:
    answers = _Answers([], [], [], [])
    with Console(stderr=True).status("reading studies") as status:
        for study in studies:
            frames = [picture.frame for picture in study.pictures]
            answers.names.append(study.name)
            answers.a.append(ask_a(frames))
            answers.b.append(ask_b(frames))
            answers.sources.append((frozenset(f.source.sop_instance_uid for f in frames), study.files))
            status.update(f"{len(answers.names)} studies")
    return answers


def _options(task: Task) -> EngineOptions:
    """Without heads: the models are compared, not what a site fitted on one of them."""
    settings = load_settings(task.config or defaults() / "node.yaml")
    logs.configure(settings.log.level, settings.log.form)
    shipped = defaults() / "findings" / f"{task.catalogue}.yaml"
    return replace(
        engine_options(settings, next(iter(settings.readings))),
        triage=bundle_folder("biomedclip"),
        drafting=None,
        calibration=None,
        probe=None,
        mode=UseMode.RESEARCH,
        catalogue=shipped if shipped.is_file() else Path(task.catalogue),
        cache=settings.data_folder / "model-cache" if task.config else None,
    )


def _load(name: str, options: EngineOptions, catalogue: FindingsCatalogue) -> tuple[Model, Ask]:
    """The model of a bundle, and how it is asked: a contrastive one by prompts, BiomedGPT by a question for each finding."""
    from inference.engine import Engine, load_drafter

    folder = bundle_folder("biomedclip") if name == PHANTOM else Path(name)
    bundle = open_bundle(folder)
    if bundle.card.kind in DRAFTING_KINDS:
        from inference.drafting.asking import ask_findings

        drafter = load_drafter(replace(options, drafting=folder))

        def ask(frames: Sequence[Frame]) -> tuple[Finding, ...]:
            inside = [frame for frame in frames if not catalogue.scope.refuse(frame)]
            if not inside:
                return not_assessable(catalogue, catalogue.scope.refuse(frames[0]))
            return ask_findings(drafter, catalogue, inside)

        return _model(bundle, str(getattr(drafter, "precision", "float32"))), ask
    engine = Engine.load(replace(options, triage=folder))
    return _model(bundle, engine.precision.removeprefix("triage ")), lambda frames: engine.read(frames).findings


def _model(bundle: Bundle, precision: str) -> Model:
    version = bundle.model_version()
    return Model(version.name, version.kind, version.version, version.digest, precision)


def _studies(source: Path, modality: str, skipped: list[Skipped]) -> Iterator[Study]:
    """Study by study as they lie; a plain image is a study of its own. What is no picture goes into ``skipped``."""

    def pictures() -> Iterator[Picture]:
        for item in each_picture([source], modality):
            if isinstance(item, Picture):
                yield item
            else:
                skipped.append(item)

    for name, items in groupby(pictures(), key=lambda item: item.study_instance_uid or _under(source, item.name)):
        found = tuple(items)
        files = (name for item in found for name in (_under(source, item.name), item.name.name))
        yield Study(name, found, frozenset(files))


def _under(source: Path, path: Path) -> str:
    return path.relative_to(source).as_posix() if path != source and path.is_relative_to(source) else path.name


def _labels(task: Task, catalogue: FindingsCatalogue) -> Labels | None:
    if task.labels is None:
        return None
    names = read_names(task.names, catalogue.keys) if task.names else None
    return read_labels(task.labels, catalogue.keys, names=names)


def _known(
    task: Task, labels: Labels | None, sources: Sequence[tuple[frozenset[str], frozenset[str]]]
) -> Mapping[str, NDArray[np.int8]] | None:
    """Present in a study where it is on one of its labelled images; absent where it is on none of them."""
    if labels is None:
        return None
    table = np.full((len(sources), len(labels.keys)), UNKNOWN, np.int8)
    for place, (uids, files) in enumerate(sources):
        rows = [row.truth for row in labels.rows if row.image in (uids if labels.by_uid else files)]
        if rows:
            table[place] = np.array(rows, np.int8).max(axis=0)
    if (table == UNKNOWN).all():
        raise LabelsError(f"{task.labels}: no row is about an image of {task.source}")
    return {key: table[:, index] for index, key in enumerate(labels.keys)}


def _as_json(a: Model, b: Model, catalogue: FindingsCatalogue, compared: Sequence[Compared], skipped: int) -> str:
    said: dict[str, Any] = {
        "a": asdict(a),
        "b": asdict(b),
        "catalogue": asdict(catalogue.identity),
        "left_out": skipped,
        "findings": [asdict(one) for one in compared],
    }
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


def _as_csv(compared: Sequence[Compared]) -> str:
    """One row for each finding; one more for each study on which the two decide differently."""
    names = [name for name in Compared.__dataclass_fields__ if name != "flips"]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow([*names, "study", "decision_a", "probability_a", "decision_b", "probability_b"])
    for one in compared:
        figures = ["" if getattr(one, name) is None else getattr(one, name) for name in names]
        writer.writerow([*figures, "", "", "", "", ""])
        for flip in one.flips:
            writer.writerow([one.key, *[""] * (len(names) - 1), flip.study, *_cells(flip.a), *_cells(flip.b)])
    return file.getvalue()


def _cells(said: Judged) -> tuple[str, str]:
    return said.decision.value, "" if said.probability is None else f"{said.probability:.6f}"


def _write(path: Path | None, text: str) -> None:
    if path:
        write_whole(path, text.encode())


def _show(models: tuple[Model, Model], compared: Sequence[Compared], studies: int, skipped: int) -> None:
    screen = console()
    for letter, model in zip("AB", models, strict=True):
        screen.print(f"{letter}: {model.name} {model.version}, {model.kind}, {model.precision}, digest {model.digest[:12]}")
    screen.print(f"{studies} studies; {skipped} files or images left out", highlight=False)
    table = Table("finding", "both", "A +", "B +", "agree", "kappa", "rho", "B-A", "AUC A", "AUC B", "flips")
    for one in compared:
        figures = (one.agreement, one.kappa, one.correlation, one.mean_shift, one.auc_a, one.auc_b)
        counts = (one.both, one.positive_a, one.positive_b)
        table.add_row(one.key, *map(str, counts), *("–" if f is None else f"{f:.3f}" for f in figures), str(len(one.flips)))
    screen.print(table)
    flips = [(one.key, flip) for one in compared for flip in one.flips]
    for key, flip in flips[:_SHOWN]:
        a, b = (" ".join(filter(None, _cells(said))) for said in (flip.a, flip.b))
        screen.print(f"{key}: {flip.study}: A {a}, B {b}", highlight=False, markup=False)
    if len(flips) > _SHOWN:
        screen.print(f"and {len(flips) - _SHOWN} more; --json or --csv names all", highlight=False)
