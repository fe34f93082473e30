"""What an engine is made with, and the checks that need no model library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from inference.bundles import Bundle, check_mode, open_bundle
from inference.reading import UseMode
from inference.triage.catalogue import FindingsCatalogue, load_catalogue
from inference.triage.heads.applied import Heads, Role, open_heads

TRIAGE_KINDS: Final = ("biomedclip", "clip")
DRAFTING_KINDS: Final = ("biomedgpt",)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What one kind of reading is made with.

    ``device``: auto, cpu, cuda or cuda:N. ``threads``: CPU threads, 0 as torch chooses. ``precision``: auto, float32 or
    bfloat16, as ``triage.precision`` says. ``resizing``: exact as published, or fast. ``cache``: a folder for prompt embeddings
    and what was measured; None: keep nothing.
    ``acknowledgements``: bundle name to the permission on record. ``calibration``, ``probe``: folders of heads fitted for the
    triage model; ``probe_role``: whether the probe decides, or only says beside what it would have said. ``draft_images``: from
    how many views of a study the draft is written at most, None: as the drafting bundle says.
    ``heat_maps``: whether each positive finding is shown on its image.
    """

    triage: Path
    drafting: Path | None
    catalogue: Path
    mode: UseMode
    device: str = "auto"
    threads: int = 0
    precision: str = "float32"
    resizing: Literal["exact", "fast"] = "exact"
    cache: Path | None = None
    acknowledgements: Mapping[str, str] = field(default_factory=dict)
    calibration: Path | None = None
    probe: Path | None = None
    probe_role: Role = "decide"
    heat_maps: bool = True
    draft_images: int | None = None


def check_options(options: EngineOptions) -> tuple[Bundle, Bundle | None, FindingsCatalogue]:
    """Open what the options name, without loading a model.

    Raises BundleError, LicenceError, CatalogueError, or HeadError where a head is damaged or belongs to another model.
    """
    triage = open_bundle(options.triage, kinds=TRIAGE_KINDS)
    drafting = open_bundle(options.drafting, kinds=DRAFTING_KINDS) if options.drafting else None
    for bundle in filter(None, (triage, drafting)):
        check_mode(bundle, options.mode, options.acknowledgements.get(bundle.card.name, ""))
    catalogue = load_catalogue(options.catalogue)
    heads_of(options, triage, catalogue)
    return triage, drafting, catalogue


def heads_of(options: EngineOptions, triage: Bundle, catalogue: FindingsCatalogue) -> Heads:
    """The calibration and probe that the options name. Raises HeadError."""
    return open_heads(options.calibration, options.probe, options.probe_role, triage, catalogue)
