"""Pictures of other kinds, films of another hospital, and the words for them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from inference.phantoms import KEYS, draw_phantom
from inference.phantoms.films import render_films
from inference.phantoms.kind_films import render_kinds
from inference.phantoms.kinds import FRONTAL, KINDS, OTHERS, draw_kind
from inference.phantoms.phrases import AXES, DEVICES, NAMES, SIDED, details, draw_phrases, side_phrases
from inference.phantoms.shift import SHIFTS, draw_shifted, shifted_films
from inference.phantoms.training_batches import Batches, normalise, on_patches


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_draws_one_picture_of_its_kind(kind: str) -> None:
    one, same, other = draw_kind(kind, 3, 64), draw_kind(kind, 3, 64), draw_kind(kind, 4, 64)
    assert one.shape == ((64, 64, 3) if kind == "photograph" else (64, 64))
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind not in ("text", "photograph")])
def test_size_changes_the_grain_alone(kind: str) -> None:
    small, large = draw_kind(kind, 5, 64), draw_kind(kind, 5, 256)
    shrunk = large.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.95


def test_turned_films_are_the_frontal_film_turned() -> None:
    film = draw_phantom(8, size=64).pixels
    assert np.array_equal(draw_kind(FRONTAL, 8, 64), film)
    assert np.array_equal(draw_kind("inverted", 8, 64), 255 - film)
    assert np.array_equal(draw_kind("upside_down", 8, 64)[::-1], film)
    assert np.array_equal(draw_kind("rotated", 8, 64).T[::-1], film) or np.array_equal(
        draw_kind("rotated", 8, 64).T[:, ::-1], film
    )


def test_kinds_differ_more_than_their_own_pictures_do() -> None:
    """Oracle without a model: the middle picture of a kind is nearer to its own pictures than to those of most others."""
    films = render_kinds(range(6), 32)
    grey = films.pixels.astype(np.float64).mean(axis=3).reshape(len(films), -1)
    middles = np.stack([grey[films.kinds == KINDS.index(kind)].mean(axis=0) for kind in OTHERS])
    nearest = np.argmin(((grey[:, None] - middles) ** 2).sum(axis=2), axis=1)
    right = np.array([OTHERS[number] for number in nearest]) == np.array([KINDS[number] for number in films.kinds])
    assert right.mean() > 0.6  # by chance one in nine


@pytest.mark.parametrize("shift", SHIFTS)
def test_another_hospital_has_the_same_truth_on_other_films(shift: str) -> None:
    own, other = draw_phantom(12, size=96), draw_shifted(12, shift, size=96)
    assert (own.findings, own.caption) == (other.findings, other.caption)
    assert set(own.boxes) == set(other.boxes)
    change = np.abs(own.pixels.astype(int) - other.pixels.astype(int)).mean()
    assert change > 5
    assert np.corrcoef(own.pixels.ravel(), other.pixels.ravel())[0, 1] > 0.5
    films = shifted_films(range(2), 64, shift)
    assert (films.pixels.shape, films.labels.shape, films.boxes.shape) == ((2, 64, 64), (2, 6), (2, 6, 4))


UNKNOWN = {
    "kind": (lambda: draw_kind("foot", 0), "unknown kind 'foot'; allowed: chest_frontal"),
    "size": (lambda: draw_kind("hand", 0, 8), "size is 8"),
    "shift": (lambda: draw_shifted(0, "moon"), "unknown shift 'moon'; allowed: portable"),
}


@pytest.mark.parametrize(("draw", "says"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_cannot_be_drawn_is_told(draw: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        draw()  # type: ignore[operator]


CAPTIONS = {
    "side": ("small left pleural effusion. no pneumothorax.", [1, 0, 0, 0], [0, 0, 0]),
    "zone": ("there is consolidation in the right mid zone. no pneumothorax.", [0, 0, -1, 0], [0, 0, 0]),
    "two sides": ("large right pneumothorax. left upper zone nodule. no pleural effusion.", [0, -1, 0, 1], [0, 0, 0]),
    "denied": ("clear lungs. normal heart size. no pleural effusion. no pneumothorax.", [0, 0, 0, 0], [0, 0, 0]),
    "device": ("there is a left central line device. no pleural effusion.", [0, 0, 0, 0], [0, 1, 0]),
}


@pytest.mark.parametrize(("caption", "sides", "devices"), CAPTIONS.values(), ids=CAPTIONS)
def test_what_a_caption_says(caption: str, sides: list[int], devices: list[int]) -> None:
    assert details(caption) == (sides, devices)


def test_captions_say_the_side_that_was_drawn() -> None:
    """Oracle: the box of what was drawn; the patient's left is right in the picture."""
    films = render_films(range(40), 32, rich=True)
    for labels, boxes, caption in zip(films.labels, films.boxes, films.captions, strict=True):
        sides, _ = details(caption)
        for key, side in zip(SIDED, sides, strict=True):
            place = KEYS.index(key)
            middle = (boxes[place][1] + boxes[place][3]) / 2
            assert side == (0 if not labels[place] else 1 if middle > 0.5 else -1)


def test_phrases_mean_what_they_say() -> None:
    """Oracle: words looked for in the text."""
    phrases = draw_phrases(np.random.default_rng(0), 400)
    for text, row in zip(phrases.texts, phrases.meanings, strict=True):
        along = {name: value for name, value in zip(AXES, row.tolist(), strict=True) if value}
        denied = re.match(r"(a film |there is )?(no|without) ", text) is not None
        for key in (*KEYS, *DEVICES):
            said = any(re.search(rf"\b{name}\b", text) for name in NAMES[key])
            if along.get(key, 0) > 0 and key != "device":
                assert said
                assert not denied
        if denied and "sign" not in text:
            assert min(along.values()) < 0
        sides = [value for name, value in along.items() if name.endswith(" side")]
        assert bool(sides) == (("left" in text or "right" in text) and not denied)
    assert all("right" in text for text in side_phrases("nodule")[0])
    assert all("left" in text for text in side_phrases("nodule")[1])


def test_batches_hold_films_and_every_kind() -> None:
    films, others = render_films(range(10), 160, rich=True), render_kinds(range(2), 160)
    batches = Batches(films, others, size=5, shift=6, rng=torch.Generator().manual_seed(0))
    drawn = list(batches)
    assert len(drawn) == len(batches) == 2
    seen = set()
    for batch in drawn:
        extra = len(batch.kinds) - 5
        assert batch.images.shape == (5 + extra, 3, 160, 160)
        assert batch.patches.shape == (5, 100, len(KEYS))
        assert (batch.kinds[:5] == KINDS.index(FRONTAL)).all()
        assert batch.empty.shape == (extra,)
        assert bool((batch.kinds[5:][batch.empty] != KINDS.index(FRONTAL)).all())
        assert batch.images.isfinite().all()
        assert batch.images.min() >= normalise(torch.zeros(1, 1, 1, 1)).min() - 1e-5
        assert batch.images.max() <= normalise(torch.ones(1, 1, 1, 1)).max() + 1e-5
        seen |= set(batch.kinds.tolist())
    assert len(seen) >= 6


def test_patches_of_a_box() -> None:
    """A box of two by one patches, and one smaller than a patch that lies in two."""
    boxes = torch.tensor([[[0.1, 0.3, 0.3, 0.4], [0.52, 0.58, 0.56, 0.62]]])
    found = on_patches(boxes, 160)[0].reshape(10, 10, 2)
    assert found[..., 0].nonzero().tolist() == [[1, 3], [2, 3]]
    torch.testing.assert_close(found[5, 5:7, 1], torch.tensor([0.5, 0.5]))
    assert float(found[..., 1].sum()) == pytest.approx(1)
