"""Drawn films: the same for a seed, with what was asked for, where it was said to be."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest

from inference.phantoms import KEYS, bundle_folder, draw_ct_phantom, draw_phantom
from inference.phantoms.films import cached_films

_WORDS = {"pleural_effusion": "effusion", "cardiomegaly": "cardiomegaly"}


def test_a_seed_always_draws_the_same_film() -> None:
    one, two, other = draw_phantom(5, size=96), draw_phantom(5, size=96), draw_phantom(6, size=96)
    assert np.array_equal(one.pixels, two.pixels)
    assert (one.findings, one.caption, one.boxes) == (two.findings, two.caption, two.boxes)
    assert not np.array_equal(one.pixels, other.pixels)


def test_size_changes_neither_anatomy_nor_words() -> None:
    small, large = draw_phantom(9, size=128), draw_phantom(9, size=512)
    assert small.caption == large.caption
    shrunk = large.pixels.reshape(128, 4, 128, 4).mean(axis=(1, 3))
    assert np.corrcoef(small.pixels.ravel(), shrunk.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("key", KEYS)
def test_a_finding_changes_the_film_inside_its_box(key: str) -> None:
    """Oracle: the same body without the finding. Cardiomegaly is another body and is judged by its own width."""
    for seed in range(4):
        with_it, without = draw_phantom(seed, frozenset([key]), 256), draw_phantom(seed, frozenset(), 256)
        row0, col0, row1, col1 = (round(edge * 256) for edge in with_it.boxes[key])
        assert row0 < row1
        assert col0 < col1
        if key == "cardiomegaly":
            assert col1 - col0 > 0.5 * 256 * 0.6
            continue
        change = np.abs(with_it.pixels.astype(int) - without.pixels.astype(int))
        inside = np.zeros((256, 256), bool)
        inside[row0:row1, col0:col1] = True
        assert change[inside].mean() > 3 * change[~inside].mean()


@pytest.mark.parametrize("key", KEYS)
def test_the_caption_names_the_finding_and_its_side(key: str) -> None:
    word = _WORDS.get(key, key)
    for seed in range(6):
        film = draw_phantom(seed, frozenset([key]), 64)
        named = [sentence for sentence in film.caption.split(".") if word in sentence and " no " not in f" {sentence} "]
        assert len(named) == 1
        if key in ("cardiomegaly",) or "tube" in named[0]:
            continue
        centre = (film.boxes[key][1] + film.boxes[key][3]) / 2
        if "line" not in named[0] and "pacemaker" not in named[0]:
            assert (" right " in f" {named[0]} ") == (centre < 0.5)  # the patient's right is left in the picture


def test_a_normal_film_says_so() -> None:
    film = draw_phantom(1, frozenset(), 64)
    assert not film.boxes
    assert film.caption.endswith("no pleural effusion. no pneumothorax.")


def test_left_to_chance_about_a_third_is_normal() -> None:
    drawn = [draw_phantom(seed, size=32).findings for seed in range(150)]
    assert 0.2 < sum(not findings for findings in drawn) / 150 < 0.5
    assert max(len(findings) for findings in drawn) == 2
    assert all(sum(key in findings for findings in drawn) > 7 for key in KEYS)


def test_films_for_training_keep_pixels_labels_and_boxes_together(tmp_path: Path) -> None:
    films = cached_films(tmp_path / "films.npz", range(3), 64, rich=True)
    again = cached_films(tmp_path / "films.npz", range(3), 64, rich=True)
    assert films.pixels.shape == (3, 64, 64)
    assert np.array_equal(films.labels, (films.boxes != 0).any(axis=2))
    assert np.array_equal(films.pixels, again.pixels)
    assert films.captions == again.captions


def test_it_looks_like_a_film() -> None:
    """Lungs darker than mediastinum and abdomen; the corners beside the neck black."""
    for seed in range(5):
        pixels = draw_phantom(seed, frozenset(), 256).pixels.astype(float)
        assert pixels.dtype == np.float64
        lungs = [pixels[90:150, 55:85].mean(), pixels[90:120, 170:200].mean()]
        assert max(lungs) < pixels[60:150, 124:132].mean() - 30
        assert max(lungs) < pixels[225:250, 90:160].mean() - 15
        assert pixels[:20, :20].mean() < 60


@pytest.mark.parametrize(
    ("findings", "size", "says"),
    [
        pytest.param(frozenset({"fracture"}), 64, "unknown finding 'fracture'; allowed: pleural_effusion", id="finding"),
        pytest.param(frozenset(), 16, "size is 16", id="size"),
    ],
)
def test_what_cannot_be_drawn_is_told(findings: frozenset[str], size: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        draw_phantom(0, findings, size)


def test_all_findings_fit_on_one_film() -> None:
    film = draw_phantom(3, frozenset(KEYS), 128)
    assert set(film.boxes) == set(KEYS)


def test_ct_phantom_has_lungs_fat_and_bone() -> None:
    volume = draw_ct_phantom(2, slices=3, size=128)
    assert volume.shape == (3, 128, 128)
    assert volume.dtype == np.int16
    assert volume[:, 64, 30].mean() == pytest.approx(-850, abs=60)
    assert volume.max() > 300
    assert volume[:, 0, 0].mean() == pytest.approx(-1000, abs=40)
    assert hashlib.sha256(volume.tobytes()).digest() == hashlib.sha256(draw_ct_phantom(2, 3, 128).tobytes()).digest()


def test_drawing_is_quick() -> None:
    started = time.process_time()
    for seed in range(10):
        draw_phantom(seed, size=256)
    assert (time.process_time() - started) / 10 < 0.1  # 22 ms on an idle core


def test_bundle_folder_names_its_kinds() -> None:
    assert bundle_folder("biomedclip").name == "biomedclip-phantom"
    with pytest.raises(ValueError, match="no phantom bundle of kind 'clip'; there are: biomedclip, biomedgpt"):
        bundle_folder("clip")
