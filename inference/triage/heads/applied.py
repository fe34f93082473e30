"""Heads at work: margins and embeddings in, what the node says of each finding out. numpy only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.bundles import Bundle
from inference.errors import HeadError
from inference.reading import HeadVersion, Method
from inference.triage.catalogue import Band, FindingsCatalogue
from inference.triage.heads.manifest import (
    HeadCard,
    HeadFinding,
    Weights,
    prompts_digest,
    read_head,
    read_weights,
)
from inference.triage.heads.transform import sigmoid
from inference.triage.judge import Ruling

Role = Literal["decide", "shadow"]


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What is known of each frame before frames become a study.

    ``probabilities``: float32 (frames, entries), 0..1. ``judged``: keys that are answered at all. ``rulings``: by key, what
    takes the place of the catalogue's threshold and band.
    """

    probabilities: NDArray[np.float32]
    judged: frozenset[str]
    rulings: Mapping[str, Ruling] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """The heads of one reading, for its model and catalogue; with none, probabilities are the model's own."""

    catalogue: FindingsCatalogue
    calibration: HeadCard | None = None
    probe: HeadCard | None = None
    weights: Weights | None = None
    role: Role = "decide"

    @property
    def versions(self) -> tuple[HeadVersion, ...]:
        """Every head that took part; a probe in shadow is of the kind "probe in shadow"."""
        found = [card.head_version() for card in (self.calibration, self.probe) if card]
        return tuple(replace(one, kind=f"{one.kind} in shadow") if self._shadowed(one) else one for one in found)

    def opinion(self, margins: NDArray[np.float32], embeddings: NDArray[np.float32], judged: Collection[str]) -> Opinion:
        """What goes out. ``margins``: logits (frames, entries). ``embeddings``: (frames, width).

        ``judged``: the keys that the model itself may judge. Raises HeadError where the embeddings have another width than
        the probe's.
        """
        own = self._calibrated(margins, judged)
        return self._probed(own, embeddings) if self.role == "decide" else own

    def shadow(self, margins: NDArray[np.float32], embeddings: NDArray[np.float32]) -> Opinion | None:
        """What the probe on trial would say, of its own findings only; None where none is on trial."""
        if self.probe is None or self.role == "decide":
            return None
        return self._probed(Opinion(np.full(margins.shape, np.nan, np.float32), frozenset()), embeddings)

    @property
    def directions(self) -> dict[str, NDArray[np.float32]]:
        """What the probability of each finding that a probe decides rises along: float32 (width,) by key."""
        if self.probe is None or self.weights is None or self.role != "decide":
            return {}
        rows = zip(self.probe.findings, self.weights.weights, strict=True)
        return {finding.key: row.astype(np.float32) for finding, row in rows if finding.transform is not None}

    @property
    def words(self) -> tuple[str, ...]:
        """What each head does in this reading, for an operator."""
        return tuple(
            f"{version.kind} {version.name} {version.version} of {card.made} ({card.films} films): {', '.join(card.judged)}"
            for version, card in zip(self.versions, filter(None, (self.calibration, self.probe)), strict=True)
        )

    def _shadowed(self, version: HeadVersion) -> bool:
        return version.kind == "probe" and self.role == "shadow"

    def _calibrated(self, margins: NDArray[np.float32], judged: Collection[str]) -> Opinion:
        probabilities = np.where(np.isfinite(margins), sigmoid(margins), np.nan).astype(np.float32)
        rulings = {}
        for column, finding in self._columns(self.calibration):
            if finding.key in judged:
                rulings[finding.key] = _ruling(finding, Method.CALIBRATED)
                if finding.transform is not None:
                    probabilities[:, column] = finding.transform(margins[:, column])
        return Opinion(probabilities, frozenset(judged), rulings)

    def _probed(self, own: Opinion, embeddings: NDArray[np.float32]) -> Opinion:
        if self.probe is None or self.weights is None:
            return own
        if embeddings.shape[1] != self.weights.weights.shape[1]:
            raise HeadError(
                f"the probe was fitted on {self.weights.weights.shape[1]} numbers, the model gives {embeddings.shape[1]}"
            )
        vectors, probabilities, rulings = embeddings.astype(np.float64), own.probabilities.copy(), dict(own.rulings)
        order = {finding.key: row for row, finding in enumerate(self.probe.findings)}
        for column, finding in self._columns(self.probe):
            row = order[finding.key]
            margins = np.einsum("fw,w->f", vectors, self.weights.weights[row].astype(np.float64)) + self.weights.biases[row]
            if finding.transform is not None:
                probabilities[:, column] = finding.transform(margins)
                rulings[finding.key] = _ruling(finding, Method.PROBE)
        return Opinion(probabilities, own.judged | set(rulings), rulings)

    def _columns(self, card: HeadCard | None) -> list[tuple[int, HeadFinding]]:
        place = {key: column for column, key in enumerate(self.catalogue.keys)}
        return [(place[one.key], one) for one in card.findings if one.key in place] if card else []


def open_heads(calibration: Path | None, probe: Path | None, role: Role, bundle: Bundle, catalogue: FindingsCatalogue) -> Heads:
    """Read and verify the heads of a reading.

    Raises HeadError where one is damaged, or was fitted for another model or with other prompts.
    """
    first = read_head(calibration, "calibration") if calibration else None
    second = read_head(probe, "probe") if probe else None
    for folder, card in ((calibration, first), (probe, second)):
        if folder and card:
            _check_model(folder, card, bundle)
            _check_keys(folder, card, catalogue)
    if calibration and first:
        _check_prompts(calibration, first, catalogue)
    weights = read_weights(probe, second) if probe and second else None
    return Heads(catalogue, first, second, weights, role)


def _ruling(finding: HeadFinding, method: Method) -> Ruling:
    band = Band(*finding.band) if finding.band else None
    return Ruling(threshold=finding.threshold, band=band, method=method, refusal=finding.unusable)


def _check_model(folder: Path, card: HeadCard, bundle: Bundle) -> None:
    if card.tie.model_digest != bundle.digest:
        raise HeadError(
            f"{folder}: this {card.kind} was fitted for {card.tie.model} (digest {card.tie.model_digest[:12]}…), and the "
            f"reading uses {bundle.card.name} {bundle.card.version} (digest {bundle.digest[:12]}…): its numbers mean nothing "
            "there. Fit it again with this model, or remove it from the reading."
        )


def _check_keys(folder: Path, card: HeadCard, catalogue: FindingsCatalogue) -> None:
    if not set(card.judged) & set(catalogue.keys):
        raise HeadError(f"{folder}: none of its findings ({', '.join(card.judged)}) is in the catalogue {catalogue.name!r}")


def _check_prompts(folder: Path, card: HeadCard, catalogue: FindingsCatalogue) -> None:
    now = {entry.key: prompts_digest(catalogue, entry) for entry in catalogue.findings}
    other = [one.key for one in card.findings if one.key in now and now[one.key] != card.tie.prompts.get(one.key)]
    if other:
        raise HeadError(
            f"{folder}: the prompts of {', '.join(other)} in the catalogue {catalogue.name!r} are not those that this "
            f"calibration was fitted with (catalogue {card.tie.catalogue!r}). Fit it again with this catalogue, or remove it "
            "from the reading."
        )
