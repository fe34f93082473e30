"""`wetread embed` and `wetread search`: pictures of an archive found by words or by another picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dicom_node import logs
from dicom_node.choices import engine_options
from dicom_node.errors import SettingsError
from dicom_node.pictures import Picture, each_picture, load_pictures
from dicom_node.settings import Settings, defaults_folder, load_settings
from dicom_node.storage.vectors import IndexedPicture, IndexModel, PictureFilter, VectorIndex
from dicom_node.terminal import console
from inference.errors import CatalogueError
from inference.options import EngineOptions, check_options
from inference.reading import Skipped, UseMode
from inference.triage.retrieval import nearest

if TYPE_CHECKING:
    from inference.triage.contrastive import Triage

_BATCH: Final = 32
_DATE: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


@dataclass(frozen=True, slots=True)
class Query:
    """``text`` or ``image``, exactly one of them; ``top``: how many pictures to show."""

    text: str | None
    image: Path | None
    wanted: PictureFilter
    top: int = 10


@dataclass(frozen=True, slots=True)
class Found:
    """One picture and the cosine of its embedding with the query, -1..1."""

    cosine: float
    picture: IndexedPicture


def embed(source: Path, folder: Path, config: Path | None, reading: str | None, modality: str) -> int:
    """Embed every picture of ``source`` that the index does not hold yet. Returns 0.

    Killed at any moment, the same command goes on. Raises SettingsError, InferenceError and StorageError, for the user.
    """
    if not source.exists():
        raise SettingsError(f"--source {source}: no such file or folder")
    screen = Console(stderr=True)
    triage = _load(_options(config, reading))
    skipped = 0
    with VectorIndex.held(folder, _index_model(triage)) as index:
        before = len(index)
        with screen.status("embedding") as status:
            for batch in _batches(each_picture([source], modality, index.holds)):
                pictures = [item for item in batch if isinstance(item, Picture)]
                skipped += len(batch) - len(pictures)
                _add(index, triage, pictures)
                status.update(f"embedding: {len(index)} pictures")
        screen.print(f"{len(index) - before} pictures added, {len(index)} in {folder}; {skipped} files or images left out")
    return 0


def search(folder: Path, query: Query, config: Path | None, reading: str | None, *, as_json: bool) -> int:
    """Print the pictures nearest to the query. Returns 0. Raises SettingsError, InferenceError and StorageError."""
    index = VectorIndex.open(folder)
    triage = _load(_options(config, reading))
    if triage.bundle.digest != index.model.digest:
        raise SettingsError(
            f"{folder}: was made by {index.model.name} (digest {index.model.digest[:12]}), and this reading has "
            f"{triage.bundle.card.name} ({triage.bundle.digest[:12]}); name its reading, or embed the archive anew"
        )
    found = find(index, _vector(triage, query), query.wanted, query.top)
    if as_json:
        print(json.dumps([{"cosine": round(hit.cosine, 4), **asdict(hit.picture)} for hit in found], indent=2))
    else:
        _show(found, index, triage)
    return 0


def find(index: VectorIndex, query: NDArray[np.float32], wanted: PictureFilter, top: int) -> tuple[Found, ...]:
    """The ``top`` pictures that pass the filter, nearest first; exact. ``query``: float32 (width,)."""
    hits = nearest(index.matrix(), query, top, index.rows(wanted))
    return tuple(Found(hit.cosine, index.picture(hit.row)) for hit in hits)


def filter_of(modalities: str, body_parts: str, since: str, until: str) -> PictureFilter:
    """A filter of what was typed: lists with commas, dates as YYYY-MM-DD or YYYYMMDD. Raises SettingsError."""
    return PictureFilter(_terms(modalities), _terms(body_parts), _date("--since", since), _date("--until", until))


def _terms(text: str) -> tuple[str, ...]:
    return tuple(term.strip().upper() for term in text.split(",") if term.strip())


def _date(option: str, text: str) -> str:
    match = _DATE.fullmatch(text.strip())
    if text and not match:
        raise SettingsError(f"{option} {text!r}: give a date as YYYY-MM-DD")
    return "".join(match.groups()) if match else ""


def _options(config: Path | None, reading: str | None) -> EngineOptions:
    settings: Settings = load_settings(config or defaults_folder() / "node.yaml")
    logs.configure(settings.log.level, settings.log.form)
    name = reading or next(iter(settings.readings), "")
    if name not in settings.readings:
        raise SettingsError(f"--reading {name!r} is not in the settings; there are: {', '.join(settings.readings) or 'none'}")
    return replace(engine_options(settings, name), mode=UseMode.RESEARCH)


def _load(options: EngineOptions) -> Triage:
    from inference.engine import load_triage

    check_options(options)
    return load_triage(options)


def _index_model(triage: Triage) -> IndexModel:
    return IndexModel(triage.bundle.model_version().name, triage.bundle.digest, triage.contrasts.shape[1])


def _batches(items: Iterator[Picture | Skipped]) -> Iterator[list[Picture | Skipped]]:
    while batch := list(islice(items, _BATCH)):
        yield batch


def _add(index: VectorIndex, triage: Triage, pictures: list[Picture]) -> None:
    once = {(p.frame.source.sop_instance_uid, p.frame.source.frame_number): p for p in pictures}  # copies of one file
    new = [picture for key, picture in once.items() if not index.holds(*key)]
    if new:
        index.add([_indexed(picture) for picture in new], triage.embed([picture.frame for picture in new]))


def _indexed(picture: Picture) -> IndexedPicture:
    frame, source = picture.frame, picture.frame.source
    return IndexedPicture(
        sop_instance_uid=source.sop_instance_uid,
        frame_number=source.frame_number,
        study_instance_uid=picture.study_instance_uid,
        series_instance_uid=source.series_instance_uid,
        modality=frame.modality[:16],
        body_part=frame.body_part[:64],
        view=frame.view[:64],
        study_date=_date_or_empty(picture.study_date),
        name=str(picture.name),
    )


def _date_or_empty(text: str) -> str:
    match = _DATE.fullmatch(text.strip())
    return "".join(match.groups()) if match else ""


def _vector(triage: Triage, query: Query) -> NDArray[np.float32]:
    if query.image is None:
        if not (query.text or "").strip():
            raise SettingsError("nothing to search for: give a text, or a picture with --image")
        try:
            words: NDArray[np.float32] = triage.embed_texts([str(query.text).strip()])[0]
            return words
        except CatalogueError as error:
            raise SettingsError("the text is longer than the model reads; say it in fewer words") from error
    pictures = load_pictures([query.image])
    if len(pictures.frames) != 1:
        why = "; ".join(item.reason for item in pictures.skipped[:1])
        raise SettingsError(f"--image {query.image}: one picture is needed, {len(pictures.frames)} found {why and f'({why})'}")
    vector: NDArray[np.float32] = triage.embed(pictures.frames)[0]
    return vector


def _show(found: tuple[Found, ...], index: VectorIndex, triage: Triage) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("cosine", "modality", "body part", "view", "date", "picture"):
        table.add_column(name, justify="right" if name == "cosine" else "left", overflow="fold")
    for hit in found:
        p = hit.picture
        place = p.name if p.frame_number == 1 else f"{p.name} (frame {p.frame_number})"
        table.add_row(f"{hit.cosine:.3f}", p.modality, p.body_part, p.view, p.study_date, place)
    screen = console()
    screen.print(table if found else "No picture of the index passes the filter.")
    screen.print(f"{len(index)} pictures, by {triage.bundle.model_version().name}", style="dim")
