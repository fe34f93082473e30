"""Labelled films as the triage model sees them: the rows of a table of labels, each with its image found, read and embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import PixelError, SettingsError
from dicom_node.pictures import PLAIN_IMAGES, Picture, each_picture
from dicom_node.pixels import read_instance
from inference.errors import LabelsError
from inference.reading import Frame, Skipped
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.gate import Gate
from inference.triage.heads.calibrate import Labelled
from inference.triage.heads.labels import FILE, UID, Labels, Row

if TYPE_CHECKING:
    from inference.triage.contrastive import Triage

_BATCH: Final = 32
_LINES_NAMED: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """``left_out``: why images of the table were not used, a sentence for each reason, by line."""

    labelled: Labelled
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Film:
    row: Row
    frame: Frame


def gather(
    labels: Labels, images: Path, triage: Triage, catalogue: FindingsCatalogue, modality: str, told: Callable[[int], None]
) -> Gathered:
    """Find and read each image of the table under ``images`` and pass it through the model.

    ``modality``: of plain images, which do not say; empty for the catalogue's first. ``told``: called with the number of
    films so far. Images that cannot be read, and those that the node would not judge, are left out and told.
    Raises SettingsError where there is no such folder, LabelsError where an image is missing or stands in two rows, and where
    none is left.
    """
    if not images.is_dir():
        raise SettingsError(f"--images {images}: no such folder")
    places = _by_uid(labels, images) if labels.by_uid else _by_name(labels, images)
    reasons: dict[str, list[int]] = {}
    gate = Gate(catalogue, triage)
    rows: list[Row] = []
    embeddings = []
    for batch in _batches(_films(labels, places, modality or catalogue.scope.modalities[0], reasons)):
        looked = gate.look([film.frame for film in batch])
        for film, (_, verdict) in zip(batch, looked.verdicts, strict=True):
            if verdict.refusal:
                kind = f"the model takes it for {verdict.kind.display}" if verdict.kind else verdict.refusal
                reasons.setdefault(kind, []).append(film.row.line)
            else:
                rows.append(replace(film.row, truth=_asked(film, catalogue)))
        if looked.kept:
            embeddings.append(looked.vectors)
        told(len(rows))
    left_out = tuple(f"{reason} ({_lines(lines)})" for reason, lines in reasons.items())
    if not rows:
        raise LabelsError(f"{labels.path}: none of its images can be used: {'; '.join(left_out)}")
    return Gathered(_labelled(labels, rows, np.concatenate(embeddings), triage), left_out)


def _labelled(labels: Labels, rows: Sequence[Row], vectors: NDArray[np.float32], triage: Triage) -> Labelled:
    names = {name: number for number, name in enumerate(dict.fromkeys(row.patient for row in rows))}
    return Labelled(
        keys=labels.keys,
        truth=np.array([row.truth for row in rows], dtype=np.int8),
        margins=triage.margins_of(vectors),
        embeddings=vectors,
        patients=np.array([names[row.patient] for row in rows]),
        collections=tuple(row.collection for row in rows),
    )


def _asked(film: _Film, catalogue: FindingsCatalogue) -> tuple[int, ...]:
    """A finding that the node would not look for on this image is not known of it."""
    return tuple(
        -1 if entry.scope.refuse(film.frame) else truth for entry, truth in zip(catalogue.findings, film.row.truth, strict=True)
    )


def _films(labels: Labels, places: Sequence[Path], modality: str, reasons: dict[str, list[int]]) -> Iterator[_Film]:
    """Each row's picture; rows whose image is none go into ``reasons``."""
    seen: dict[str, int] = {}
    for row, path in zip(labels.rows, places, strict=True):
        found = list(each_picture([path], modality))
        frames = [item.frame for item in found if isinstance(item, Picture)]
        if len(frames) != 1:
            reasons.setdefault(_why_not(found), []).append(row.line)
            continue
        uid = frames[0].source.sop_instance_uid
        if uid in seen:
            raise LabelsError(f"{labels.where(row)}: the same picture as line {seen[uid]}; a picture has one row")
        seen[uid] = row.line
        yield _Film(row, frames[0])


def _why_not(found: Sequence[Picture | Skipped]) -> str:
    if sum(isinstance(item, Picture) for item in found) > 1:
        return "it holds several frames; label images of one frame"
    return next((item.reason for item in found if isinstance(item, Skipped)), "it holds no picture")


def _by_name(labels: Labels, images: Path) -> list[Path]:
    """The path as given under the folder, else the one file there of that name."""
    by_name: dict[str, list[Path]] = {}
    if not all((images / row.image).is_file() for row in labels.rows):
        for path in sorted(images.rglob("*")):
            by_name.setdefault(path.name, []).append(path)
    found = []
    for row in labels.rows:
        given = images / row.image
        candidates = [given] if given.is_file() else [path for path in by_name.get(given.name, []) if path.is_file()]
        found.append(_only(labels, row, FILE, candidates, images))
    return found


def _by_uid(labels: Labels, images: Path) -> list[Path]:
    held: dict[str, list[Path]] = {}
    for path in sorted(images.rglob("*")):
        if path.is_file() and path.suffix.lower() not in PLAIN_IMAGES:
            try:
                held.setdefault(read_instance(path).sop_instance_uid, []).append(path)
            except PixelError:
                continue  # not an image: no row is about it
    return [_only(labels, row, UID, held.get(row.image, [])[:1], images) for row in labels.rows]


def _only(labels: Labels, row: Row, column: str, found: Sequence[Path], images: Path) -> Path:
    if not found:
        raise LabelsError(f"{labels.where(row)}, column {column!r}: there is no such image under {images}")
    if len(found) > 1:
        raise LabelsError(
            f"{labels.where(row)}, column {column!r}: {len(found)} files under {images} have this name; give its path"
        )
    return found[0]


def _batches(films: Iterator[_Film]) -> Iterator[list[_Film]]:
    batch: list[_Film] = []
    for film in films:
        batch.append(film)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(lines: Sequence[int]) -> str:
    shown = ", ".join(str(line) for line in lines[:_LINES_NAMED])
    more = f" and {len(lines) - _LINES_NAMED} more" if len(lines) > _LINES_NAMED else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{more}"
