"""Pictures a person names on the command line, as frames: DICOM files, folders of them, or PNG, JPEG and TIFF images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dicom_node.errors import PixelError, SettingsError, StorageError
from dicom_node.pixels import read_instance, render_frame, select_frames
from inference.reading import Frame, FrameSource, Skipped

PLAIN_IMAGES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One frame, the file it came from as given, and its Study Instance UID (empty for a plain image)."""

    frame: Frame
    name: Path
    study_instance_uid: str = ""
    study_date: str = ""  # DICOM DA, empty where the file does not say


@dataclass(frozen=True, slots=True)
class Pictures:
    """``names``: the file of each frame, as given. ``skipped`` names what is no picture, with the reason."""

    frames: tuple[Frame, ...]
    names: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def load_pictures(paths: Sequence[Path], modality: str = "") -> Pictures:
    """Every picture under ``paths`` at once; see ``each_picture`` for many."""
    found = list(each_picture(paths, modality))
    pictures = [item for item in found if isinstance(item, Picture)]
    return Pictures(
        tuple(picture.frame for picture in pictures),
        tuple(picture.name for picture in pictures),
        tuple(item for item in found if isinstance(item, Skipped)),
    )


def each_picture(
    paths: Sequence[Path], modality: str = "", done: Callable[[str, int], bool] = lambda _uid, _frame: False
) -> Iterator[Picture | Skipped]:
    """Every picture under ``paths``, one at a time, rendered as a person would see it, and what is none, with the reason.

    Plain images come first, then study by study; DICOM stacks are sampled by the node's own rules. ``modality``: the defined
    term of plain images, which do not say. ``done``: SOP Instance UID and frame number of what is passed over without being
    decoded. Raises SettingsError where a path does not exist.
    """
    studies: dict[str, list[Path]] = {}
    for path in _files(paths):
        try:
            if path.suffix.lower() not in PLAIN_IMAGES:
                uid = str(read_instance(path).header.get("StudyInstanceUID", "") or "")
                studies.setdefault(uid, []).append(path)
            elif not done(uid := _derived_uid(path), 1):
                yield Picture(_plain(path, uid, modality), path)
        except (PixelError, StorageError) as error:
            yield Skipped(path.name, str(error))
    for study in sorted(studies):
        yield from _study(study, studies[study], done)


def _study(uid: str, paths: Sequence[Path], done: Callable[[str, int], bool]) -> Iterator[Picture | Skipped]:
    selection = select_frames([read_instance(path) for path in paths])
    yield from selection.skipped
    for instance, frame_number, look in selection.chosen:
        if done(instance.sop_instance_uid, frame_number):
            continue
        try:
            date = str(instance.header.get("StudyDate", "") or "")
            yield Picture(render_frame(instance, frame_number, look=look), instance.path, uid, date)
        except PixelError as error:
            yield Skipped(instance.sop_instance_uid, str(error))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.exists():
            yield path
        else:
            raise SettingsError(f"{path}: no such file or folder")


def _derived_uid(path: Path) -> str:
    """A UID made of the file's bytes (PS3.5 B.2): the same picture keeps it."""
    try:
        with path.open("rb") as file:
            return f"2.25.{int.from_bytes(hashlib.file_digest(file, 'sha256').digest()[:16], 'big')}"
    except OSError as error:
        raise StorageError(f"cannot be opened ({error.strerror})") from error


def _plain(path: Path, uid: str, modality: str) -> Frame:
    try:
        with Image.open(path) as image:
            pixels = _eight_bit(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise PixelError(f"is not a readable image ({type(error).__name__})") from error
    return Frame(pixels, FrameSource(uid, _SECONDARY_CAPTURE, f"{uid}.1"[:64]), modality.upper())


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    """16-bit and float images run from their lowest value to their highest: they carry no window."""
    if not image.mode.startswith(("I", "F")):
        return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    values = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    scaled: NDArray[np.uint8] = np.clip((values - low) / (high - low or 1.0) * 255, 0, 255).round().astype(np.uint8)
    return scaled
