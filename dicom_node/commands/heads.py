"""`wetread calibrate` and `wetread probe fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dicom_node.research.heads import Choice, Films, Output
    from inference.triage.heads.finding import Wishes

probe = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Linear heads fitted on a site's labelled films.")

Labels = Annotated[
    Path, typer.Option("--labels", help="CSV: file (or sop_instance_uid), patient, one column for each finding.")
]
Images = Annotated[Path, typer.Option("--images", help="Folder of the images: DICOM, PNG, JPEG or TIFF.")]
Out = Annotated[Path, typer.Option("--out", help="The folder to make.")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings; the shipped phantom models without.")]
Reading = Annotated[str | None, typer.Option(help="A name under `readings` of the settings; default: the first.")]
BundleName = Annotated[
    str | None, typer.Option("--bundle", help="In place of --config: the model's bundle folder, or `phantom`.")
]
CatalogueName = Annotated[
    str | None, typer.Option("--catalogue", help="A catalogue that ships, such as chest_xray, or a file.")
]
Names = Annotated[Path | None, typer.Option("--names", help="YAML: what the names in the column `labels` mean.")]
Patient = Annotated[str, typer.Option("--patient-column", help="The column that tells patients apart.")]
Modality = Annotated[str, typer.Option(help="Modality of plain images; default: the catalogue's first.")]
Sensitivity = Annotated[float | None, typer.Option(help="Share of films with the finding to be called, 0 to 1. Default 0.95.")]
Specificity = Annotated[float | None, typer.Option(help="In place of it: share of films without the finding not to be called.")]
Abstain = Annotated[
    float | None,
    typer.Option(help="Leave undecided what cannot be called at this error rate, such as 0.1. Default: decide all."),
]
Prevalence = Annotated[
    list[str] | None, typer.Option(help="KEY=SHARE of films in use that have the finding, where the labelled films hold more.")
]
Name = Annotated[str, typer.Option(help="The name in every result; default: the folder's.")]
Version = Annotated[str, typer.Option("--head-version", help="The version in every result.")]
Made = Annotated[str, typer.Option("--date", help="The date it carries, YYYY-MM-DD; default: today.")]
Seed = Annotated[int, typer.Option(min=0, help="Of folds and resamples.")]


def calibrate(
    labels: Labels, images: Images, out: Out,
    config: Config = None, reading: Reading = None, bundle: BundleName = None, catalogue: CatalogueName = None,
    names: Names = None, patient_column: Patient = "patient", modality: Modality = "",
    method: Annotated[str, typer.Option(help="temperature · platt · isotonic · auto")] = "auto",
    sensitivity: Sensitivity = None, specificity: Specificity = None, abstain: Abstain = None, prevalence: Prevalence = None,
    name: Name = "", head_version: Version = "1", date: Made = "", seed: Seed = 0,
) -> None:  # fmt: skip
    """Fit probabilities and thresholds. On a site's labelled films, with a report; nothing of a patient is kept."""
    from dicom_node.research import heads

    wishes = _wishes(method, sensitivity, specificity, abstain, prevalence or [], seed)
    chosen = _choice(config, reading, bundle, catalogue), _films(labels, images, names, patient_column, modality)
    raise typer.Exit(heads.calibrate(*chosen, _output(out, name, head_version, date), wishes))


@probe.command("fit")
def probe_fit(
    labels: Labels, images: Images, out: Out,
    few_shot: Annotated[
        int | None, typer.Option(min=1, help="Learn from so many films with and without each finding; measure on the others.")
    ] = None,
    config: Config = None, reading: Reading = None, bundle: BundleName = None, catalogue: CatalogueName = None,
    names: Names = None, patient_column: Patient = "patient", modality: Modality = "",
    sensitivity: Sensitivity = None, specificity: Specificity = None, abstain: Abstain = None, prevalence: Prevalence = None,
    name: Name = "", head_version: Version = "1", date: Made = "", seed: Seed = 0,
) -> None:  # fmt: skip
    """Fit a linear head for each finding on the model's embeddings, measured beside the model's own answers."""
    from dicom_node.research import heads

    wishes = _wishes("auto", sensitivity, specificity, abstain, prevalence or [], seed)
    chosen = _choice(config, reading, bundle, catalogue), _films(labels, images, names, patient_column, modality)
    raise typer.Exit(heads.fit_probe(*chosen, _output(out, name, head_version, date), wishes, few_shot))


def _choice(config: Path | None, reading: str | None, bundle: str | None, catalogue: str | None) -> Choice:
    from dicom_node.research.heads import Choice

    return Choice(config, reading, bundle, catalogue)


def _films(labels: Path, images: Path, names: Path | None, patient: str, modality: str) -> Films:
    from dicom_node.research.heads import Films

    return Films(labels, images, names, patient, modality.upper())


def _output(out: Path, name: str, version: str, date: str) -> Output:
    import datetime

    from dicom_node.errors import SettingsError
    from dicom_node.research.heads import Output

    try:
        made = datetime.date.fromisoformat(date) if date else datetime.datetime.now(datetime.UTC).date()
    except ValueError as error:
        raise SettingsError(f"--date {date!r}: give a date as YYYY-MM-DD") from error
    return Output(out, made.isoformat(), version, name)


def _wishes(
    method: str, sensitivity: float | None, specificity: float | None, abstain: float | None, prevalence: list[str], seed: int
) -> Wishes:
    from typing import get_args

    from dicom_node.errors import SettingsError
    from inference.triage.heads.decide import Wish
    from inference.triage.heads.finding import Wishes
    from inference.triage.heads.fit_transform import Method

    if sensitivity is not None and specificity is not None:
        raise SettingsError("give either --sensitivity or --specificity, not both")
    if method not in get_args(Method):
        raise SettingsError(f"--method {method!r}: allowed: {', '.join(get_args(Method))}")
    kind, share = ("specificity", specificity) if specificity is not None else ("sensitivity", sensitivity)
    wish = Wish(kind, _share(f"--{kind}", 0.95 if share is None else share))  # type: ignore[arg-type]
    shares = dict(_pair(text) for text in prevalence)
    return Wishes(wish, method, abstain if abstain is None else _share("--abstain", abstain), shares, seed)  # type: ignore[arg-type]


def _share(option: str, value: float) -> float:
    from dicom_node.errors import SettingsError

    if not 0 < value < 1:
        raise SettingsError(f"{option} {value:g}: must lie between 0 and 1")
    return value


def _pair(text: str) -> tuple[str, float]:
    from dicom_node.errors import SettingsError

    key, _, number = text.partition("=")
    try:
        return key.strip(), _share(f"--prevalence {key}", float(number))
    except ValueError as error:
        raise SettingsError(f"--prevalence {text!r}: give it as KEY=SHARE, such as pneumothorax=0.02") from error
