"""`wetread calibrate` and `wetread probe fit`: from labelled films to a folder that the node uses, with its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from dicom_node import logs
from dicom_node.choices import engine_options
from dicom_node.errors import SettingsError
from dicom_node.research.labelled import Gathered, gather
from dicom_node.settings import PHANTOM, Settings, defaults_folder, load_settings
from dicom_node.terminal import console
from inference.options import EngineOptions, check_options
from inference.phantoms import bundle_folder
from inference.reading import UseMode
from inference.triage.heads.calibrate import fit_calibration, general_notes
from inference.triage.heads.finding import FindingFit, State, Wishes
from inference.triage.heads.labels import read_labels
from inference.triage.heads.manifest import HeadCard, HeadFinding, Kind, Tie, Weights, prompts_digest, write_head
from inference.triage.heads.names import read_names
from inference.triage.heads.report import Subject, write_report

if TYPE_CHECKING:
    from inference.triage.contrastive import Triage
    from inference.triage.heads.probe import Direction

REPORT: Final = "report.md"
DIAGRAM: Final = "reliability.png"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model and catalogue: those of a reading of the settings, or a bundle and a catalogue named for themselves."""

    config: Path | None = None
    reading: str | None = None
    bundle: str | None = None
    catalogue: str | None = None


@dataclass(frozen=True, slots=True)
class Films:
    """Which films: the table, the folder of images, and how to read them."""

    labels: Path
    images: Path
    names: Path | None = None
    patient: str = "patient"
    modality: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """What is made. ``name``: empty for the folder's. ``made``: an ISO date."""

    folder: Path
    made: str
    version: str = "1"
    name: str = ""


def calibrate(choice: Choice, films: Films, output: Output, wishes: Wishes) -> int:
    """Fit a calibration. Returns 1 where no finding could be fitted: then only the report is written.

    Raises SettingsError, LabelsError, BundleError and CatalogueError, for the user.
    """
    work = _gather(choice, films, output, wishes)
    fits = fit_calibration(work.gathered.labelled, work.triage.judged, wishes)
    findings = [_calibrated(one) for one in fits if one.state in (State.FITTED, State.CHANCE)]
    return _write(work, "calibration", fits, findings, wishes)


def fit_probe(choice: Choice, films: Films, output: Output, wishes: Wishes, few_shot: int | None) -> int:
    """Fit a probe; as ``calibrate``."""
    from inference.triage.heads import probe

    work = _gather(choice, films, output, wishes)
    done = probe.fit_probe(work.gathered.labelled, work.triage.judged, wishes, few_shot)
    directions = probe.directions(done)
    findings = [_judged(one.finding) for one in done if one.finding.key in directions]
    weights = _weights([directions[one.key] for one in findings]) if findings else None
    return _write(work, "probe", [one.finding for one in done], findings, wishes, weights, few_shot)


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    options: EngineOptions
    triage: Triage
    gathered: Gathered
    output: Output


def _gather(choice: Choice, films: Films, output: Output, wishes: Wishes) -> _Work:
    """Everything that can be refused is refused before the model is loaded."""
    from inference.engine import load_triage

    _check_output(output)
    options = _options(choice)
    _, _, catalogue = check_options(options)
    for key in wishes.prevalence:
        if key not in catalogue.keys:
            raise SettingsError(f"--prevalence {key}: no finding of the catalogue; there are: {', '.join(catalogue.keys)}")
    names = read_names(films.names, catalogue.keys) if films.names else None
    labels = read_labels(films.labels, catalogue.keys, names=names, patient=films.patient)
    screen = Console(stderr=True)
    if labels.unused:
        screen.print(f"columns not used: {', '.join(labels.unused)}", markup=False, highlight=False)
    triage = load_triage(options)
    with screen.status("reading films") as status:
        gathered = gather(
            labels,
            films.images,
            triage,
            catalogue,
            films.modality,
            lambda done: status.update(f"{done} of {len(labels.rows)} films"),
        )
    return _Work(options, triage, gathered, output)


def _options(choice: Choice) -> EngineOptions:
    """Without heads: one that no longer fits must not stand in the way of its successor."""
    if choice.bundle and (choice.config or choice.reading):
        raise SettingsError("give either --bundle (and --catalogue), or --config and --reading")
    settings: Settings = load_settings(choice.config or defaults_folder() / "node.yaml")
    logs.configure(settings.log.level, settings.log.form)
    name = choice.reading or next(iter(settings.readings), "")
    if name not in settings.readings:
        raise SettingsError(f"--reading {name!r} is not in the settings; there are: {', '.join(settings.readings) or 'none'}")
    options = replace(engine_options(settings, name), mode=UseMode.RESEARCH, drafting=None, calibration=None, probe=None)
    if choice.bundle:
        options = replace(options, triage=bundle_folder("biomedclip") if choice.bundle == PHANTOM else Path(choice.bundle))
    if choice.catalogue:
        shipped = defaults_folder() / "findings" / f"{choice.catalogue}.yaml"
        options = replace(options, catalogue=shipped if shipped.is_file() else Path(choice.catalogue))
    return options


def _check_output(output: Output) -> None:
    folder = output.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"--out {folder}: is there already and is not empty; a head's folder is made new")


def _write(
    work: _Work, kind: Kind, fits: Sequence[FindingFit], findings: Sequence[HeadFinding], wishes: Wishes,
    weights: Weights | None = None, few_shot: int | None = None,
) -> int:  # fmt: skip
    """Report and diagram first, the manifest last: a folder without it is not used by a node."""
    usable = any(one.state is State.FITTED for one in fits)
    folder = work.output.folder
    folder.mkdir(parents=True, exist_ok=True)
    card = _card(work, kind, findings, wishes)
    image = ""
    if any(one.curve for one in fits):
        from inference.triage.heads.reliability import draw_reliability  # matplotlib loads only here

        before = "zero-shot" if kind == "probe" else "as it is"
        draw_reliability(fits, folder / DIAGRAM, f"{kind} {card.name} {card.version}, {card.tie.model}", before)
        image = DIAGRAM
    (folder / REPORT).write_text(write_report(_subject(work, card, fits, image, few_shot), fits, wishes), "utf-8")
    if usable:
        write_head(folder, card, weights)
    _tell(folder, kind, fits, usable=usable)
    return 0 if usable else 1


def _card(work: _Work, kind: Kind, findings: Sequence[HeadFinding], wishes: Wishes) -> HeadCard:
    _, _, catalogue = check_options(work.options)
    card, labelled = work.triage.bundle.card, work.gathered.labelled
    prompts = {entry.key: prompts_digest(catalogue, entry) for entry in catalogue.findings} if kind == "calibration" else {}
    wish = f"{wishes.wish.kind} {wishes.wish.share:g}" + (
        f", abstaining at an error rate of {wishes.abstain:g}" if wishes.abstain else ""
    )
    return HeadCard(
        kind=kind,
        name=work.output.name or work.output.folder.resolve().name,
        version=work.output.version,
        made=work.output.made,
        tie=Tie(
            f"{card.name} {card.version}",
            work.triage.bundle.digest,
            f"{catalogue.name} {catalogue.version}",
            catalogue.digest,
            prompts,
        ),
        wish=wish,
        films=len(labelled),
        patients=len(np.unique(labelled.patients)),
        findings=tuple(findings),
    )


def _subject(work: _Work, card: HeadCard, fits: Sequence[FindingFit], image: str, few_shot: int | None) -> Subject:
    labelled = work.gathered.labelled
    return Subject(
        kind=card.kind,
        name=card.name,
        version=card.version,
        made=card.made,
        model=card.tie.model,
        model_digest=card.tie.model_digest,
        phantom=work.triage.bundle.card.phantom,
        catalogue=card.tie.catalogue,
        films=card.films,
        patients=card.patients,
        collections=tuple(Counter(labelled.collections).items()),
        left_out=work.gathered.left_out,
        notes=general_notes(labelled, fits),
        image=image,
        few_shot=few_shot,
    )


def _calibrated(one: FindingFit) -> HeadFinding:
    if one.fit is not None:
        return _judged(one)
    unusable = f"on {one.counts.films} labelled films of this site the model was not better than chance for this finding"
    return HeadFinding(one.key, unusable=unusable, films=one.counts.films, positives=one.counts.positives)


def _judged(one: FindingFit) -> HeadFinding:
    assert one.fit is not None
    threshold, band = one.fit.cut.threshold.value, one.fit.band
    return HeadFinding(one.key, one.fit.transform, threshold, band, films=one.counts.films, positives=one.counts.positives)


def _weights(directions: Sequence[Direction]) -> Weights:
    weights = np.stack([one.weights for one in directions]).astype(np.float32)
    return Weights(weights, np.array([one.bias for one in directions], dtype=np.float32))


def _tell(folder: Path, kind: Kind, fits: Sequence[FindingFit], *, usable: bool) -> None:
    out = console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("finding", "state", "with", "without", "AUC", "threshold", "sensitivity", "specificity"):
        table.add_column(name, no_wrap=True)
    for one in fits:
        cells = (one.fit.cut.threshold.value, one.fit.sensitivity, one.fit.specificity) if one.fit else ()
        shown = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells]
        area = str(one.auc) if one.auc else ""
        table.add_row(
            one.key, one.state.value, str(one.counts.positives), str(one.counts.films - one.counts.positives), area, *shown
        )
    out.print(table)
    if usable:
        out.print(
            f"Made {folder}. Read {folder / REPORT}, then name the folder as `{kind}` of a reading.",
            markup=False,
            soft_wrap=True,
        )
    else:
        out.print(
            f"No finding could be fitted: nothing for the node was written. {folder / REPORT} says why.",
            markup=False,
            soft_wrap=True,
        )
