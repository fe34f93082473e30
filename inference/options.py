"""What an engine is made with, and the checks that need no model library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inference.bundles import Bundle, check_mode, open_bundle
from inference.reading import UseMode
from inference.triage.catalogue import FindingsCatalogue, load_catalogue

TRIAGE_KINDS: Final = ("biomedclip", "clip")
DRAFTING_KINDS: Final = ("biomedgpt",)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What one kind of reading is made with.

    ``device``: auto, cpu, cuda or cuda:N. ``threads``: CPU threads, 0 as torch chooses.
    ``acknowledgements``: bundle name to the permission on record.
    """

    triage: Path
    drafting: Path | None
    catalogue: Path
    mode: UseMode
    device: str = "auto"
    threads: int = 0
    acknowledgements: Mapping[str, str] = field(default_factory=dict)


def check_options(options: EngineOptions) -> tuple[Bundle, Bundle | None, FindingsCatalogue]:
    """Open what the options name, without loading a model.

    Raises BundleError, LicenceError or CatalogueError.
    """
    triage = open_bundle(options.triage, kinds=TRIAGE_KINDS)
    drafting = open_bundle(options.drafting, kinds=DRAFTING_KINDS) if options.drafting else None
    for bundle in filter(None, (triage, drafting)):
        check_mode(bundle, options.mode, options.acknowledgements.get(bundle.card.name, ""))
    return triage, drafting, load_catalogue(options.catalogue)
