"""The report of a fit, in Markdown: what was fitted on which films, how well it does, and what it does not show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference.bundles import PHANTOM_MARK
from inference.triage.heads.finding import FindingFit, Fit, State, Wishes
from inference.triage.heads.fit_transform import AS_IT_IS
from inference.triage.heads.measure import BINS, CONFIDENCE, RESAMPLES


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report is about. ``left_out``: sentences on images that were not used. ``image``: the diagram's file or none."""

    kind: str  # calibration · probe
    name: str
    version: str
    made: str
    model: str
    model_digest: str
    phantom: bool
    catalogue: str
    films: int
    patients: int
    collections: tuple[tuple[str, int], ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    image: str
    few_shot: int | None = None


def write_report(subject: Subject, fits: Sequence[FindingFit], wishes: Wishes) -> str:
    """The whole report."""
    parts = [_head(subject, fits), _films(subject), _summary(fits, subject)]
    if subject.image:
        parts.append(f"## Reliability\n\n![Reliability diagrams]({subject.image})\n\n{_LEGEND}")
    parts += [_finding(one, wishes) for one in fits if one.auc is not None]
    parts.append(_method(subject, wishes))
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "Points on the dotted line say what is true: of the films given 0.3, three in ten have the finding. Bars are 95 % "
    "intervals (Wilson), the dashed line is the threshold, a grey band is where the node abstains. The fitted curve is out of "
    "fold: each film by a fit that did not see its patient."
)


def _head(subject: Subject, fits: Sequence[FindingFit]) -> str:
    fitted = [one.key for one in fits if one.state is State.FITTED]
    lines = [f"# {subject.kind.capitalize()} {subject.name} {subject.version}", ""]
    if subject.phantom:
        lines += [f"**{PHANTOM_MARK}: the model knows drawn films only. On films of people its numbers mean nothing.**", ""]
    if fitted:
        lines += [f"**Fitted for {len(fitted)} of {len(fits)} findings: {', '.join(fitted)}.**", ""]
    else:
        lines += ["**Not usable: no finding could be fitted, and nothing was written for the node.**", ""]
    lines += [
        f"- made {subject.made}",
        f"- model {subject.model}, digest `{subject.model_digest}`; refused with any other",
        f"- catalogue {subject.catalogue}" + ("; refused with other prompts" if subject.kind == "calibration" else ""),
    ]
    return "\n".join(lines)


def _films(subject: Subject) -> str:
    lines = ["## Films", "", f"{subject.films} films of {subject.patients} patients."]
    if subject.few_shot is not None:
        lines.append(f"Of each finding {subject.few_shot} films with and without it were learned from; the others measure.")
    if subject.collections:
        lines += ["", *_table(("collection", "films"), [(name or "(not said)", str(n)) for name, n in subject.collections])]
    if subject.left_out:
        lines += ["", "Left out:", "", *(f"- {text}" for text in subject.left_out)]
    if subject.notes:
        lines += ["", "**Mind:**", "", *(f"- {text}" for text in subject.notes)]
    return "\n".join(lines)


def _summary(every: Sequence[FindingFit], subject: Subject) -> str:
    """A row for each finding with a label; those without are named below."""
    fits = [one for one in every if one.counts.films]
    unlabelled = ", ".join(one.key for one in every if not one.counts.films)
    if subject.kind == "probe":
        header = ("finding", "state", "with", "without", "AUC probe", "AUC zero-shot, same films", "gain")
        rows = [(*_start(one), _or_dash(one.auc), _or_dash(one.beside), _or_dash(one.gain)) for one in fits]
    else:
        header = ("finding", "state", "with", "without", "AUC", "ECE before → after", "Brier before → after")
        rows = [(*_start(one), _or_dash(one.auc), *_change(one)) for one in fits]
    rest = ["", f"Without any label: {unlabelled}."] if unlabelled else []
    return "\n".join(["## Findings", "", *_table(header, rows), *rest])


def _start(one: FindingFit) -> tuple[str, str, str, str]:
    state = one.state.value if one.state is State.FITTED else f"**{one.state.value}**"
    return one.key, state, str(one.counts.positives), str(one.counts.films - one.counts.positives)


def _change(one: FindingFit) -> tuple[str, str]:
    if one.before is None:
        return "–", "–"
    if one.fit is None:
        return f"{one.before.ece:.3f}", f"{one.before.brier:.3f}"
    after = one.fit.quality
    return f"{one.before.ece:.3f} → {after.ece:.3f}", f"{one.before.brier:.3f} → {after.brier:.3f}"


def _finding(one: FindingFit, wishes: Wishes) -> str:
    lines = [f"### {one.key}", ""]
    lines += [f"- **{note}**" for note in one.notes]
    lines.append(f"- {one.counts.positives} of {one.counts.films} films, {one.counts.positive_patients} patients with it")
    lines += [f"- area under the ROC curve {one.auc}" + _inside(one)]
    if one.beside is not None:
        lines.append(f"- zero-shot on the same films {one.beside}; gain {one.gain}")
    if one.strength is not None:
        lines.append(f"- L2 strength C = {one.strength:g}")
    return "\n".join([*lines, *(_fit(one.fit, wishes) if one.fit else ())])


def _fit(fit: Fit, wishes: Wishes) -> Iterable[str]:
    losses = ", ".join(f"{kind} {loss:.4f}" for kind, loss in fit.losses.items())
    plain = fit.transform.kind == "temperature" and fit.transform.slope == 1.0
    yield f"- transform: {AS_IT_IS if plain else fit.transform.kind} (out-of-fold log loss: {losses})"
    wish = wishes.wish
    yield (
        f"- threshold {fit.cut.threshold}, for a {wish.kind} of {wish.share:.0%}: sensitivity {fit.sensitivity}, specificity "
        f"{fit.specificity}"
    )
    for rate, gap in fit.gaps.items():
        words = "no film need be left undecided" if gap is None else f"{gap.share:.0%} of films would be left undecided"
        yield f"- at an error rate of {rate:.0%} for each answer, {words}"
    if fit.band is not None:
        yield f"- **abstains from {fit.band[0]:.3f} to {fit.band[1]:.3f}**"


def _inside(one: FindingFit) -> str:
    parts = [f"{name} {area:.3f}" for name, area in one.within.items()]
    return f"; within a collection: {', '.join(parts)}" if parts else ""


def _method(subject: Subject, wishes: Wishes) -> str:
    lines = [
        "## How",
        "",
        f"- Intervals are {CONFIDENCE:.0%} percentile intervals of {RESAMPLES} resamples of patients (seed {wishes.seed}).",
        "- Folds never split a patient. ECE, Brier score and log loss after the fit are out of fold.",
        f"- ECE: {BINS} bins of equal width (Naeini 2015). Temperature: Guo 2017. Platt 1999. Isotonic: Zadrozny 2002.",
        "- Thresholds: the order statistic a new film passes with the wished share, if it comes from the same patients, "
        "devices and mix of disease. The wished share is what to expect of new films (a beta distribution over the "
        "patients); the other one is of the labelled films, which had no part in the choice.",
        "- Abstention: split-conformal with a rate for each class (Vovk 2012).",
    ]
    if subject.kind == "probe":
        lines.append(
            "- Probe: class-balanced logistic regression on standardised embeddings, C chosen by cross-validation on other "
            "folds than those that measure. Its AUC is out of fold"
            + (" (here: on the films not learned from)." if subject.few_shot else ".")
        )
    lines.append("- The films in use will differ from these. Fit again after a change of device, of patients or of the model.")
    return "\n".join(lines)


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
