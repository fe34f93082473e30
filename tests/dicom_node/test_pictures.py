"""Pictures from the command line: DICOM and plain images, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.errors import SettingsError
from dicom_node.pictures import load_pictures

GREY = np.linspace(0, 255, 64 * 48).reshape(48, 64)


@pytest.mark.parametrize(
    ("name", "image", "shape", "first_last"),
    [
        ("grey.png", Image.fromarray(GREY.astype(np.uint8)), (48, 64), (0, 255)),
        ("deep.tif", Image.fromarray((GREY * 16 + 100).astype(np.uint16)), (48, 64), (0, 255)),
        ("float.tiff", Image.fromarray((GREY / 1000).astype(np.float32)), (48, 64), (0, 255)),
        ("colour.png", Image.new("RGB", (64, 48), (9, 8, 7)), (48, 64, 3), (9, 7)),
        ("clear.png", Image.new("RGBA", (64, 48), (9, 8, 7, 255)), (48, 64, 3), (9, 7)),
    ],
)
def test_plain_image(
    tmp_path: Path, name: str, image: Image.Image, shape: tuple[int, ...], first_last: tuple[int, int]
) -> None:
    image.save(tmp_path / name)
    pictures = load_pictures([tmp_path], modality="dx")
    frame = pictures.frames[0]
    assert frame.pixels.shape == shape
    assert frame.pixels.dtype == np.uint8
    assert (int(frame.pixels.ravel()[0]), int(frame.pixels.ravel()[-1])) == first_last
    assert frame.modality == "DX"
    assert pictures.names == (tmp_path / name,)
    assert load_pictures([tmp_path]).frames[0].source == frame.source  # the same picture keeps its UID
    assert len(frame.source.sop_instance_uid) <= 64


def test_what_is_no_picture_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "notes.txt").write_text("not a film")
    Image.fromarray(GREY.astype(np.uint8)).save(tmp_path / "film.png")
    pictures = load_pictures([tmp_path])
    assert [name.name for name in pictures.names] == ["film.png"]
    assert {item.sop_instance_uid for item in pictures.skipped} == {"broken.png", "notes.txt"}
    assert all(item.reason for item in pictures.skipped)


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file or folder"):
        load_pictures([tmp_path / "absent"])
