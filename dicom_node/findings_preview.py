"""`wetread findings preview`: what a catalogue says of images, before any study is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dicom_node.findings_check import bundle_path, catalogue_path
from dicom_node.pictures import Picture, each_picture
from dicom_node.terminal import console
from inference.options import EngineOptions
from inference.reading import Decision, Finding, Frame, FrameSource, Skipped, UseMode
from inference.triage.catalogue import FindingsCatalogue, load_catalogue
from inference.triage.scope import Verdict

if TYPE_CHECKING:
    from inference.triage.contrastive import Triage
    from inference.triage.gate import Gate

_COLOURS = {Decision.POSITIVE: "bold red", Decision.NEGATIVE: "green", Decision.NOT_ASSESSABLE: "yellow"}


@dataclass(frozen=True, slots=True)
class Choice:
    """``catalogue``: a shipped name or a file. ``bundle``: a folder or `phantom`. ``modality``: of plain images, or empty."""

    catalogue: str
    bundle: str
    modality: str


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One study: what was thought of each picture, and of each finding."""

    pictures: tuple[Picture, ...]
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]

    def name(self, source: FrameSource | None) -> str:
        """The file of an image, and its frame where it holds several."""
        picture = next((picture for picture in self.pictures if picture.frame.source == source), None)
        return _name(picture) if picture else ""


def run(paths: Sequence[Path], choice: Choice, *, as_json: bool) -> int:
    """Print a table (or JSON) for each study. Returns 1 where there was no picture.

    Raises SettingsError, CatalogueError, BundleError, DeviceError.
    """
    catalogue = load_catalogue(catalogue_path(choice.catalogue))
    found = list(each_picture(paths, choice.modality or catalogue.scope.modalities[0]))
    pictures = [item for item in found if isinstance(item, Picture)]
    skipped = [item for item in found if isinstance(item, Skipped)]
    studies = list(_see(pictures, catalogue, choice))
    if as_json:
        print(json.dumps(_json(studies, skipped, catalogue), indent=2, ensure_ascii=False))
    else:
        console().print(_tables(studies, skipped, catalogue))
    return 0 if pictures else 1


def _see(pictures: Sequence[Picture], catalogue: FindingsCatalogue, choice: Choice) -> Iterator[Seen]:
    if not pictures:
        return
    from inference.engine import load_triage  # torch loads only here
    from inference.triage.gate import Gate

    options = EngineOptions(bundle_path(choice.bundle), None, catalogue_path(choice.catalogue), UseMode.RESEARCH)
    triage = load_triage(options)
    gate = Gate(catalogue, triage)
    for _, study in groupby(pictures, lambda picture: picture.study_instance_uid or str(picture.name)):
        yield _see_study(tuple(study), catalogue, triage, gate)


def _see_study(pictures: tuple[Picture, ...], catalogue: FindingsCatalogue, triage: Triage, gate: Gate) -> Seen:
    from inference.triage.judge import judge, not_assessable

    looked = gate.look([picture.frame for picture in pictures])
    if looked.kept:
        findings = judge(catalogue, looked.kept, triage.probabilities(looked.vectors), triage.judged)
    else:
        findings = not_assessable(catalogue, "no image of the study is judged")
    return Seen(pictures, tuple(verdict for _, verdict in looked.verdicts), findings)


def _tables(studies: Sequence[Seen], skipped: Sequence[Skipped], catalogue: FindingsCatalogue) -> Group:
    parts: list[RenderableType] = [
        f"Catalogue {catalogue.name} {catalogue.version}; zero-shot probabilities, not calibrated.",
        "",
    ]
    for seen in studies:
        parts += [_images(seen), "", _findings(seen, catalogue), ""]
    parts += [Text.assemble(("not a picture  ", "dim"), f"{item.sop_instance_uid}: {item.reason}") for item in skipped]
    return Group(*parts)


def _images(seen: Seen) -> Table:
    table = Table("image", "tags", "looks like", "judged", box=None, padding=(0, 2, 0, 0))
    table.columns[3].overflow = "fold"
    for picture, verdict in zip(seen.pictures, seen.verdicts, strict=True):
        looks = f"{verdict.kind.display} {verdict.probability:.2f}" if verdict.kind else "–"
        judged = Text(f"no: {verdict.refusal}", "yellow") if verdict.refusal else Text("yes", "green")
        table.add_row(Text(_name(picture)), Text(_tags(picture.frame)), Text(looks), judged)
    return table


def _findings(seen: Seen, catalogue: FindingsCatalogue) -> Table:
    table = Table(
        "finding", "urgency", "probability", "threshold", "decision", "decided by", "how", box=None, padding=(0, 2, 0, 0)
    )
    for finding, entry in zip(seen.findings, catalogue.findings, strict=True):
        probability = "–" if finding.probability is None else f"{finding.probability:.3f}"
        decision = Text(finding.decision.value, _COLOURS[finding.decision])
        table.add_row(
            Text(entry.display),
            finding.urgency.value,
            probability,
            f"{finding.threshold:g}",
            decision,
            Text(seen.name(finding.source)),
            Text(finding.reason or finding.aggregation),
        )
    return table


def _json(studies: Sequence[Seen], skipped: Sequence[Skipped], catalogue: FindingsCatalogue) -> dict[str, Any]:
    named = catalogue.identity
    return {
        "catalogue": {"name": named.name, "version": named.version, "digest": named.digest},
        "studies": [
            {
                "images": [_image_json(*pair) for pair in zip(seen.pictures, seen.verdicts, strict=True)],
                "findings": [_finding_json(finding, seen) for finding in seen.findings],
            }
            for seen in studies
        ],
        "skipped": [{"file": item.sop_instance_uid, "reason": item.reason} for item in skipped],
    }


def _image_json(picture: Picture, verdict: Verdict) -> dict[str, Any]:
    frame = picture.frame
    return {
        "file": str(picture.name),
        "frame": frame.source.frame_number,
        "modality": frame.modality,
        "body_part": frame.body_part,
        "view": frame.view,
        "judged": not verdict.refusal,
        "reason": verdict.refusal,
        "looks_like": verdict.kind.key if verdict.kind else None,
        "probability": verdict.probability if verdict.kind else None,
        "outside": verdict.outside if verdict.kind else None,
    }


def _finding_json(finding: Finding, seen: Seen) -> dict[str, Any]:
    return {
        "key": finding.key,
        "urgency": finding.urgency.value,
        "probability": finding.probability,
        "threshold": finding.threshold,
        "decision": finding.decision.value,
        "reason": finding.reason,
        "image": seen.name(finding.source) or None,
        "aggregation": finding.aggregation,
    }


def _name(picture: Picture) -> str:
    number = picture.frame.source.frame_number
    return picture.name.name if number == 1 else f"{picture.name.name} frame {number}"


def _tags(frame: Frame) -> str:
    return " ".join(filter(None, (frame.modality, frame.body_part, frame.view)))
