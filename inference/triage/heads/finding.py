"""One finding on labelled films: enough of them? better than chance? then its transform, threshold, band and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import numpy as np

from inference.errors import HeadError
from inference.triage.heads.decide import Cut, Gap, Wish, cut_for, gap_for
from inference.triage.heads.fit_transform import Method, fit_transform, shift_prior
from inference.triage.heads.measure import (
    Bin,
    Bools,
    Estimate,
    Floats,
    Ints,
    Quality,
    auc,
    auc_estimate,
    quality,
    reliability,
)
from inference.triage.heads.transform import Transform

FEWEST: Final = 10  # patients with, and patients without the finding
FEW: Final = 50  # positives below which the figures are called rough
_ENRICHED: Final = 0.2  # share of films with the finding that few places see in use
GAP_RATES: Final = (0.05, 0.1, 0.2)  # shown in the report whatever is wished


class State(StrEnum):
    """What became of a finding."""

    FITTED = "fitted"
    CHANCE = "not better than chance"  # the interval of the area under the ROC curve reaches 0.5
    WORSE = "worse than zero-shot"  # a probe that is shown to be so on the same films; left as it was
    FEW = "too few labels"  # left as it was
    UNTRAINED = "not trained"  # the model does not judge it; a calibration cannot teach it


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks of a fit. ``abstain``: error rate of the band, None for no band. ``prevalence``: by finding key."""

    wish: Wish = field(default_factory=lambda: Wish("sensitivity", 0.95))
    method: Method = "auto"
    abstain: float | None = None
    prevalence: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Films:
    """The films of one finding that are labelled: all (films,).

    ``scores``: margins, which rise with the finding. ``before``: the probabilities that the node would give without this fit.
    ``collections``: where each film comes from, empty where the labels do not say.
    """

    scores: Floats
    before: Floats
    labels: Bools
    patients: Ints
    collections: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many films and patients, and how many of them have the finding."""

    films: int
    patients: int
    positives: int
    positive_patients: int
    negative_patients: int

    @property
    def share(self) -> float:
        return self.positives / self.films if self.films else 0.0

    @property
    def enough(self) -> bool:
        return min(self.positive_patients, self.negative_patients) >= FEWEST


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What was fitted for one finding, and how it does.

    ``quality`` and ``curve`` are of out-of-fold probabilities. ``band``: from the first up to but without the second.
    ``gaps``: by error rate; no entry where too few films.
    """

    transform: Transform
    losses: Mapping[str, float]
    cut: Cut
    band: tuple[float, float] | None
    sensitivity: Estimate
    specificity: Estimate
    quality: Quality
    curve: tuple[Bin, ...]
    gaps: Mapping[float, Gap | None]


@dataclass(frozen=True, slots=True, eq=False)
class FindingFit:
    """One finding of a fit. ``auc``, ``before`` and ``curve`` (of the probabilities without the fit) need labels enough.

    ``within``: the area within each collection that has both sides. ``fit``: where the state is FITTED.
    """

    key: str
    state: State
    counts: Counts
    auc: Estimate | None = None
    before: Quality | None = None
    curve: tuple[Bin, ...] = ()
    within: Mapping[str, float] = field(default_factory=dict)
    fit: Fit | None = None
    notes: tuple[str, ...] = ()
    beside: Estimate | None = None  # of a probe: zero-shot's area on the same films
    gain: Estimate | None = None  # of a probe: how much larger its area is, film by film
    strength: float | None = None  # of a probe: the chosen L2 weight C (inverse)


def fit_finding(key: str, films: Films, wishes: Wishes) -> FindingFit:
    """Judge and fit one finding. Never raises for what the films show: the state and the notes tell it."""
    counts = count(films.labels, films.patients)
    if not counts.enough:
        return FindingFit(key, State.FEW, counts, notes=(too_few(counts),))
    area = auc_estimate(films.scores, films.labels, films.patients, wishes.seed)
    found = FindingFit(
        key=key,
        state=State.CHANCE,
        counts=counts,
        auc=area,
        before=quality(films.before, films.labels),
        curve=reliability(films.before, films.labels),
        within=_within(films),
        notes=_notes(films, counts, key in wishes.prevalence),
    )
    if area.low <= 0.5:
        return replace(found, notes=(chance(area), *found.notes))
    try:
        fitted, notes = _fit(key, films, wishes, counts)
    except HeadError as error:
        return replace(found, notes=(str(error), *found.notes))
    return replace(found, state=State.FITTED, fit=fitted, notes=(*notes, *found.notes))


def count(labels: Bools, patients: Ints) -> Counts:
    sides = [len(np.unique(patients[side])) for side in (labels, ~labels)]
    return Counts(len(labels), len(np.unique(patients)), int(labels.sum()), sides[0], sides[1])


def too_few(counts: Counts) -> str:
    return (
        f"too few labels: {counts.positive_patients} patients with and {counts.negative_patients} without the finding; "
        f"{FEWEST} of each are needed. The finding stays as it was."
    )


def chance(area: Estimate) -> str:
    return f"not better than chance on these films: the interval of the area under the ROC curve, {area}, reaches 0.5"


def _fit(key: str, films: Films, wishes: Wishes, counts: Counts) -> tuple[Fit, tuple[str, ...]]:
    done = fit_transform(films.scores, films.labels, films.patients, wishes.method, wishes.seed)
    transform, notes = done.transform, list[str]()
    if key in wishes.prevalence:
        transform = shift_prior(transform, counts.share, wishes.prevalence[key])
        notes.append(f"probabilities are for a share of {wishes.prevalence[key]:.2%} of films in use, not {counts.share:.0%}")
    p = transform(films.scores).astype(np.float64)
    cut = cut_for(p, films.labels, films.patients, wishes.wish, wishes.seed)
    if not cut.promised:
        notes.append(f"too few films to promise a {wishes.wish.kind} of {wishes.wish.share:.0%} for new ones")
    gaps = _gaps(p, films.labels, wishes)
    if wishes.abstain is not None and wishes.abstain not in gaps:
        notes.append(f"too few films for a band at an error rate of {wishes.abstain:g}; none was set")
    fitted = Fit(
        transform=transform,
        losses=done.losses,
        cut=cut,
        band=_band(gaps.get(wishes.abstain)) if wishes.abstain else None,
        sensitivity=cut.wished if wishes.wish.kind == "sensitivity" else cut.other,
        specificity=cut.wished if wishes.wish.kind == "specificity" else cut.other,
        quality=quality(done.out_of_fold, films.labels),
        curve=reliability(done.out_of_fold, films.labels),
        gaps=gaps,
    )
    return fitted, tuple(notes)


def _gaps(p: Floats, labels: Bools, wishes: Wishes) -> dict[float, Gap | None]:
    gaps = {}
    for rate in sorted({*GAP_RATES, *filter(None, (wishes.abstain,))}):
        try:
            gaps[rate] = gap_for(p, labels, rate)
        except ValueError:
            continue
    return gaps


def _band(gap: Gap | None) -> tuple[float, float] | None:
    """As the node reads a band: from ``low`` on, up to but without the next number above the gap."""
    return (gap.low, float(np.nextafter(np.float32(gap.high), np.float32(1)))) if gap else None


def _within(films: Films) -> dict[str, float]:
    """The area within each collection: between collections a model may only tell collections apart."""
    names = np.array(films.collections)
    inside = {str(name): names == name for name in np.unique(names) if name}
    areas = {name: float(auc(films.scores[rows], films.labels[rows])) for name, rows in inside.items()}
    return {name: area for name, area in areas.items() if np.isfinite(area)}


def _notes(films: Films, counts: Counts, prevalence: bool) -> tuple[str, ...]:
    notes = []
    if min(counts.positives, counts.films - counts.positives) < FEW:
        notes.append(f"only {counts.positives} films with and {counts.films - counts.positives} without: the figures are rough")
    if counts.share > _ENRICHED and not prevalence:
        notes.append(
            f"{counts.share:.0%} of the labelled films have the finding; where fewer do in use, probabilities come out too "
            "high (--prevalence says how many do)"
        )
    names = np.array(films.collections)
    if set(names[films.labels]) - set(names[~films.labels]):
        notes.append("some collections hold films with the finding only: the model may be telling collections apart")
    return tuple(notes)
