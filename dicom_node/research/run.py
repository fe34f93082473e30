"""`wetread research run`: every study of a folder through the live flow, with no way to deliver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from dicom_node import logs
from dicom_node.choices import document_options, engine_options, pixel_options
from dicom_node.errors import SettingsError
from dicom_node.flow import Reader
from dicom_node.research.identity import RunIdentity
from dicom_node.research.passes import Plan, read_archive
from dicom_node.settings import Settings, defaults_folder, load_settings
from dicom_node.version import code_version
from inference.options import EngineOptions, check_options, heads_of
from inference.reading import UseMode


def run(source: Path, out: Path, config: Path | None, reading: str | None) -> int:
    """Read the archive; returns 0, or 1 where a study failed outright.

    Raises SettingsError, InferenceError and StorageError, whose messages are for the user.
    """
    settings = load_settings(config or defaults_folder() / "node.yaml")
    logs.configure(settings.log.level, settings.log.form)
    return read_archive(_plan(settings, source, out, reading), Console(stderr=True))


def _plan(settings: Settings, source: Path, out: Path, reading: str | None) -> Plan:
    name = _reading(settings, reading)
    source, out = _folders(source, out)
    options = replace(engine_options(settings, name), mode=UseMode.RESEARCH)
    triage, drafting, catalogue = check_options(options)
    models = tuple(
        bundle.model_version(options.acknowledgements.get(bundle.card.name, ""))
        for bundle in ((triage, drafting) if drafting else (triage,))
    )
    pixels = pixel_options(settings)
    heads = heads_of(options, triage, catalogue).versions
    identity = RunIdentity(str(source), name, models, catalogue.identity, code_version(), heads, pixels.identity)
    return Plan(source, out, identity, document_options(settings), lambda: _load(options), pixels)


def _reading(settings: Settings, wished: str | None) -> str:
    if not settings.readings:
        raise SettingsError("key 'readings' is empty: name at least one reading")
    name = wished or next(iter(settings.readings))
    if name not in settings.readings:
        raise SettingsError(f"--reading {name!r} is not in the settings; there are: {', '.join(settings.readings)}")
    return name


def _folders(source: Path, out: Path) -> tuple[Path, Path]:
    if not source.is_dir():
        raise SettingsError(f"--source {source}: no such folder")
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {out}: is a file; name a folder")
    source, out = source.resolve(), out.resolve()
    if source.is_relative_to(out):
        raise SettingsError(f"--out {out}: holds the source itself; name a folder of its own")
    return source, out


def _load(options: EngineOptions) -> Reader:
    from inference.engine import Engine

    return Engine.load(options)
