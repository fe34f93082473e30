"""Pictures a person names on the command line, as frames: DICOM files, folders of them, or PNG, JPEG and TIFF images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from dicom_node.errors import PixelError, SettingsError
from dicom_node.pixels import Instance, read_instance, render_frame, select_frames
from inference.reading import Frame, FrameSource, Skipped

PLAIN_IMAGES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, slots=True)
class Pictures:
    """``names``: the file of each frame, as given. ``skipped`` names what is no picture, with the reason."""

    frames: tuple[Frame, ...]
    names: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def load_pictures(paths: Sequence[Path], modality: str = "") -> Pictures:
    """Every picture under ``paths``, rendered as a person would see it; DICOM stacks are sampled by the node's own rules.

    ``modality``: the defined term of plain images, which do not say. Raises SettingsError where a path does not exist.
    """
    frames: list[Frame] = []
    names: list[Path] = []
    skipped: list[Skipped] = []
    instances: list[Instance] = []
    for path in _files(paths):
        try:
            if path.suffix.lower() in PLAIN_IMAGES:
                frames.append(_plain(path, modality))
                names.append(path)
            else:
                instances.append(read_instance(path))
        except PixelError as error:
            skipped.append(Skipped(path.name, str(error)))
    selection = select_frames(instances)
    skipped.extend(selection.skipped)
    for instance, frame_number in selection.chosen:
        try:
            frames.append(render_frame(instance, frame_number))
            names.append(instance.path)
        except PixelError as error:
            skipped.append(Skipped(str(instance.header.SOPInstanceUID), str(error)))
    return Pictures(tuple(frames), tuple(names), tuple(skipped))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.exists():
            yield path
        else:
            raise SettingsError(f"{path}: no such file or folder")


def _plain(path: Path, modality: str) -> Frame:
    """A plain image as a frame; its UID is derived from its bytes (PS3.5 B.2), so the same picture keeps it."""
    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L", "I", "I;16", "F", "LA")
            pixels = (
                _eight_bit(image) if image.mode.startswith(("I", "F")) else np.asarray(image.convert("L" if grey else "RGB"))
            )
        uid = f"2.25.{int.from_bytes(hashlib.sha256(path.read_bytes()).digest()[:16], 'big')}"
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise PixelError(f"is not a readable image ({type(error).__name__})") from error
    return Frame(pixels, FrameSource(uid, _SECONDARY_CAPTURE, f"{uid}.1"[:64]), modality.upper())


def _eight_bit(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """16-bit and float images from their lowest value to their highest: they carry no window."""
    values = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    return np.clip((values - low) / (high - low or 1.0) * 255, 0, 255).round().astype(np.uint8)
