"""The files that the pixel tests read, and the pictures that an outside tool made of them."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(os.environ.get("WETREAD_DICOM", Path(__file__).parents[3].parent / "shared" / "dicom"))
needs_corpus = pytest.mark.skipif(
    not (FOLDER / "MANIFEST.csv").is_file(), reason="no DICOM corpus: set WETREAD_DICOM to a folder with MANIFEST.csv"
)


@dataclass(frozen=True)
class Row:
    """One file of the corpus. ``golden`` is empty where the outside tool could not show it."""

    file: str
    golden: str
    golden_last: str
    frames: str
    mean: str
    spread: str
    pydicom: str

    @property
    def path(self) -> Path:
        return FOLDER / self.file

    @property
    def last_frame(self) -> int:
        """Which frame ``golden_last`` shows: files of equal pixels share a picture that is named after one of them."""
        named = re.search(r"frame(\d+)\.png$", self.golden_last)
        return int(named[1]) if named else int(self.frames)


def rows() -> list[Row]:
    if not (FOLDER / "MANIFEST.csv").is_file():
        return []
    with (FOLDER / "MANIFEST.csv").open(encoding="utf-8") as file:
        return [
            Row(
                line["file"],
                line["golden"],
                line["golden_last_frame"] if line["golden_last_frame"].endswith(".png") else "",
                line["frames"],
                line["golden_full_mean"],
                line["golden_full_std"],
                line["pydicom_pixels"],
            )
            for line in csv.DictReader(file)
        ]


def difference(shown: NDArray[np.uint8], golden: str) -> float:
    """Mean absolute difference in grey levels of 255; large goldens were scaled down, so ours is averaged down alike."""
    with Image.open(FOLDER / golden) as image:
        wanted = np.asarray(image).astype(np.int16)
    size = (wanted.shape[1], wanted.shape[0])
    ours = Image.fromarray(shown)
    if ours.size != size:
        ours = ours.resize(size, Image.Resampling.BOX)
    ours_8 = np.asarray(ours).astype(np.int16)
    if ours_8.ndim < wanted.ndim:
        ours_8 = np.repeat(ours_8[..., np.newaxis], 3, axis=-1)
    assert ours_8.shape == wanted.shape
    return float(np.abs(ours_8 - wanted).mean())


def fragments(content: bytes) -> list[bytes]:
    """The fragments of explicit little-endian encapsulated pixel data, without the Basic Offset Table; closed or not."""
    at = content.rindex(b"\xe0\x7f\x10\x00O") + 12
    found = []
    while content[at : at + 4] == b"\xfe\xff\x00\xe0":
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        found.append(content[at + 8 : at + 8 + length])
        at += 8 + length
    return found[1:]
