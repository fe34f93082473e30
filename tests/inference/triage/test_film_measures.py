"""Films shown as a negative or upside down are measured: found where it is plain, and no right film is ever refused."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inference.phantoms.draw import draw_phantom
from inference.triage.film_measures import wrongly_shown
from tests.conftest import shared

Film = NDArray[np.uint8]


@pytest.mark.parametrize("seed", range(30))
def test_drawn_films(seed: int) -> None:
    film = draw_phantom(seed, size=192).pixels
    assert not wrongly_shown(film)
    assert wrongly_shown(np.invert(film)).startswith("a negative")
    assert wrongly_shown(np.stack([np.invert(film)] * 3, axis=2)).startswith("a negative")
    assert "upside down" in wrongly_shown(film[::-1])
    assert "upside down" in wrongly_shown(np.rot90(film, 2))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((64, 64), np.uint8),
        np.full((200, 100), 255, np.uint8),
        np.tile(np.arange(64, dtype=np.uint8), (64, 1)),
        np.eye(32, dtype=np.uint8) * 255,
        (np.indices((99, 99)).sum(axis=0) % 2 * 255).astype(np.uint8),
        np.pad(np.arange(64, dtype=np.uint8).reshape(8, 8), 100),
    ],
    ids=["black", "white", "ramp", "diagonal", "chequered", "speck"],
)
def test_what_is_no_chest_is_left_to_others(pixels: Film) -> None:
    assert not wrongly_shown(pixels)


def test_a_white_out_is_no_negative() -> None:
    """Lungs as bright as the mediastinum: the first sign alone does not decide."""
    film = draw_phantom(3, size=192).pixels.copy()
    film[40:150, 30:90] = film[40:150, 100:160] = 230
    assert not wrongly_shown(film)


@pytest.mark.parametrize("seed", range(5))
def test_borders_change_nothing(seed: int) -> None:
    """A shutter, letter box or film edge on any side, black or white, bare or with a label on it."""
    film = draw_phantom(seed, size=192).pixels
    for bordered in borders(film):
        assert not wrongly_shown(bordered)


def test_real_films() -> None:
    """No real film is refused (none of 150: below 2 %, by the rule of three), bordered or not; most wrong ones are found."""
    labelled = shared("WETREAD_CXR_LABELLED", "cxr-labelled")
    films = [thumbnail(labelled / path) for path in frontal(labelled / "labels.csv")]
    if not films:
        pytest.skip("the corpus holds no frontal film")
    assert not [index for index, film in enumerate(films) if wrongly_shown(film)]
    assert not [index for index, film in enumerate(films[:40]) if any(map(wrongly_shown, borders(film)))]
    assert np.mean([wrongly_shown(np.invert(film)).startswith("a negative") for film in films]) > 0.4
    assert np.mean([bool(wrongly_shown(film[::-1])) for film in films]) > 0.4


def borders(film: Film) -> Iterator[Film]:
    rows, columns = (side // 4 for side in film.shape)
    for pad in (((rows, 0), (0, 0)), ((0, rows), (0, 0)), ((0, 0), (columns, 0)), ((0, 0), (0, columns))):
        for grey in (0, 255):
            yield np.pad(film, pad, constant_values=grey)
    labelled = np.pad(film, ((0, rows), (0, 0)))
    labelled[-rows // 2 :, columns : 2 * columns] = 255
    yield labelled


def frontal(labels: Path) -> list[str]:
    with labels.open(encoding="utf-8", newline="") as file:
        return [row["file"] for row in csv.DictReader(file) if row["view"].lower() in ("pa", "ap", "ap (frontal)")]


def thumbnail(path: Path) -> Film:
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((256, 256)))
