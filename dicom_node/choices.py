"""What the settings choose for pixels, engine and documents: the same for the live node and for research."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.settings import PHANTOM, Settings, defaults_folder
from dicom_node.version import software_version
from inference.options import EngineOptions
from inference.phantoms import bundle_folder
from reporting.context import DocumentKind
from reporting.options import DEFAULT_KINDS, DocumentOptions

if TYPE_CHECKING:
    from dicom_node.pixels.options import PixelOptions


def pixel_options(settings: Settings) -> PixelOptions:
    """How pixels are read. Raises SettingsError where the file of frame rules cannot be used."""
    from dicom_node.pixels.limits import Limits
    from dicom_node.pixels.options import PixelOptions
    from dicom_node.pixels.rules import DEFAULT_RULES
    from dicom_node.pixels.rules_file import load_rules

    chosen = settings.pixels
    limits = Limits(chosen.decoders, chosen.decoder_memory_mb, chosen.decoder_seconds)
    rules = DEFAULT_RULES if chosen.frames is None else load_rules(settings.path(chosen.frames))
    return PixelOptions(limits, rules, chosen.fast)


def engine_options(settings: Settings, reading: str) -> EngineOptions:
    """What the engine of one reading is made with. Paths are made absolute; `phantom` becomes the shipped bundle."""
    chosen = settings.readings[reading]
    named = defaults_folder() / "findings" / f"{chosen.catalogue}.yaml"
    return EngineOptions(
        triage=_bundle(settings, chosen.triage, "biomedclip"),
        drafting=_bundle(settings, chosen.drafting, "biomedgpt") if chosen.drafting else None,
        catalogue=named if named.is_file() else settings.path(chosen.catalogue),
        mode=settings.mode,
        device=settings.engine.device,
        threads=settings.engine.threads,
        precision=settings.engine.precision,
        resizing=settings.engine.resizing,
        cache=model_cache(settings),
        acknowledgements=settings.acknowledgements,
        calibration=settings.path(chosen.calibration) if chosen.calibration else None,
        probe=settings.path(chosen.probe) if chosen.probe else None,
        probe_role=chosen.probe_role,
        draft_images=chosen.draft_images,
        heat_maps=chosen.heat_maps,
    )


def model_cache(settings: Settings) -> Path:
    """Where measurements and prompt embeddings are kept: beside the data, or by the user where no settings file was named."""
    if settings.folder == defaults_folder().resolve():
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wetread" / "models"
    return settings.data_folder / "model-cache"


def document_options(settings: Settings) -> DocumentOptions:
    """How documents are written, as the settings wish."""
    wished = settings.documents
    return DocumentOptions(
        software_version=software_version(),
        language=wished.language,
        fhir_status=wished.fhir_status,
        fhir_write=wished.fhir_write,
        fhir_version=wished.fhir_version,
        dicomweb_url=wished.dicomweb_url,
        patient_identifier_system=wished.patient_identifier_system,
        accession_identifier_system=wished.accession_identifier_system,
        kinds=DEFAULT_KINDS | {DocumentKind(name) for to in settings.destinations.values() for name in to.documents},
    )


def _bundle(settings: Settings, name: str, kind: str) -> Path:
    return bundle_folder(kind) if name == PHANTOM else settings.path(name)
