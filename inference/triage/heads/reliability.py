"""The reliability diagrams of a fit as one PNG: said probability across, share of films that have the finding upwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inference.triage.heads.finding import FindingFit, Fit, State
from inference.triage.heads.measure import Bin

_COLUMNS: Final = 3
_SIDE: Final = 3.4  # inches of one diagram
_BEFORE, _AFTER = "#b0571f", "#1f5fa8"  # told apart by people who see red and green alike


def draw_reliability(fits: Sequence[FindingFit], path: Path, title: str, before: str) -> None:
    """Write the diagrams of the findings with labels enough. ``before``: what the curve without this fit is called.

    Raises ValueError where no finding has a curve.
    """
    drawn = [one for one in fits if one.curve]
    if not drawn:
        raise ValueError("no finding has labels enough for a diagram")
    columns = min(_COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(columns * _SIDE, rows * (_SIDE + 0.35) + 0.7), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    for place, one in enumerate(drawn):
        _diagram(figure.add_subplot(rows, columns, place + 1), one, before)
    figure.savefig(path, format="png", metadata={"Software": None})


def _diagram(axes: Any, one: FindingFit, before: str) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
    if one.before is not None:
        _curve(axes, one.curve, _BEFORE, "s", f"{before}, ECE {one.before.ece:.3f}")
    if one.fit is not None:
        _fitted(axes, one.fit)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    state = "" if one.state is State.FITTED else f", {one.state.value}"
    axes.set_title(f"{one.key} ({one.counts.positives} of {one.counts.films}{state})", fontsize=8.5)
    axes.set_xlabel("probability", fontsize=8)
    axes.set_ylabel("share with the finding", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(loc="upper left", fontsize=6.5, framealpha=0.85, edgecolor="none")


def _fitted(axes: Any, fit: Fit) -> None:
    _curve(axes, fit.curve, _AFTER, "o", f"fitted, ECE {fit.quality.ece:.3f}")
    axes.axvline(fit.cut.threshold.value, color=_AFTER, linewidth=0.8, linestyle="--")
    if fit.band is not None:
        axes.axvspan(*fit.band, color="0.85", zorder=0)


def _curve(axes: Any, bins: Sequence[Bin], colour: str, marker: str, label: str) -> None:
    """Points whose area grows with the films in them, and Wilson's intervals."""
    x, y = [one.mean for one in bins], [one.share for one in bins]
    most = max(one.count for one in bins)
    axes.vlines(x, [one.low for one in bins], [one.high for one in bins], color=colour, linewidth=0.7, alpha=0.6)
    axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.35)  # bins of one film zigzag: the line only leads the eye
    axes.plot(x, y, color=colour, linewidth=0, label=label, marker=marker, markersize=2.5)
    axes.scatter(x, y, s=[6 + 90 * one.count / most for one in bins], color=colour, marker=marker, alpha=0.5, linewidths=0)
