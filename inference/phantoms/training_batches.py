"""Batches for training the phantom's image tower: frontal films with all that is known of them, and pictures of other kinds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from inference.phantoms.films import Films
from inference.phantoms.kind_films import KindFilms
from inference.phantoms.kinds import FRONTAL, KINDS, TURNED, turn_film
from inference.phantoms.phrases import details

MEAN: Final = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD: Final = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
_DRAWN, _TURNED, _FRONTAL = 7, 3, 3  # pictures of other kinds, turned films and oddly exposed frontal films in a batch


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """``images``: (n + m, 3, size, size), normalised: n frontal films, then m pictures of every kind.

    Of the n films: ``labels`` (n, findings); ``patches``, whether a finding lies on a patch, (n, patches, findings); ``sides``,
    +1 left, -1 right, 0 unknown, (n, SIDED); ``devices`` (n, DEVICES). Of all: ``kinds`` (n + m,). ``empty`` (m,): whatever it
    is, no finding is on it.
    """

    images: torch.Tensor
    labels: torch.Tensor
    patches: torch.Tensor
    sides: torch.Tensor
    devices: torch.Tensor
    kinds: torch.Tensor
    empty: torch.Tensor


class Batches:
    """Endless supply: each pass over it is one epoch of the films, in an order of its own."""

    def __init__(self, films: Films, others: KindFilms, *, size: int, shift: int, rng: torch.Generator) -> None:
        self._films, self._others, self._size, self._most, self._rng = films, others, size, shift, rng
        said = [details(caption) for caption in films.captions]
        self._sides = torch.tensor([sides for sides, _ in said])
        self._devices = torch.tensor([devices for _, devices in said])

    def __len__(self) -> int:
        return len(self._films) // self._size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._films), generator=self._rng)
        for chosen in torch.split(order, self._size)[: len(self)]:
            yield self._batch(chosen)

    def _batch(self, chosen: torch.Tensor) -> Batch:
        rows = chosen.numpy()
        images, boxes = self._vary(self._films.pixels[rows], torch.from_numpy(self._films.boxes[rows]))
        labels = torch.from_numpy(self._films.labels[rows]).float()
        others, kinds = self._pictures()
        frontal = torch.full((len(chosen),), KINDS.index(FRONTAL))
        return Batch(
            images=torch.cat([normalise(images), normalise(others)]),
            labels=labels,
            patches=on_patches(boxes, images.shape[-1]) * labels[:, None],
            sides=self._sides[chosen],
            devices=self._devices[chosen],
            kinds=torch.cat([frontal, kinds]),
            empty=torch.arange(len(kinds)) < _DRAWN,
        )

    def _vary(self, pixels: NDArray[np.uint8], boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Move the films a little, and change their exposure and grain: (n, 1, size, size), 0..1, and the boxes moved along."""
        most, size = self._most, pixels.shape[-1]
        down, across = torch.randint(-most, most + 1, (2,), generator=self._rng).tolist()
        grey = torch.from_numpy(pixels).float()[:, None] / 255
        grey = functional.pad(grey, (most,) * 4, mode="replicate")
        grey = grey[..., most - down : most - down + size, most - across : most - across + size]
        gain = 0.85 + 0.3 * self._random(len(grey))
        lift = 0.12 * (self._random(len(grey)) - 0.5)
        grain = 0.02 * self._random(len(grey)) * torch.randn(grey.shape, generator=self._rng)
        grey = ((grey - 0.5) * gain + 0.5 + lift + grain).clamp(0, 1)
        return grey, boxes + torch.tensor([down, across, down, across]) / size

    def _pictures(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures of other kinds, turned and frontal films, all varied much: (m, 3, size, size), 0..1, and their kinds."""
        some = torch.randint(len(self._others), (_DRAWN,), generator=self._rng).numpy()
        films = torch.randint(len(self._films), (_TURNED + _FRONTAL,), generator=self._rng).tolist()
        choices = torch.randint(1000, (_TURNED,), generator=self._rng).tolist()
        turned = [turn_film(TURNED[c % 3], self._films.pixels[f], c // 3) for f, c in zip(films, choices, strict=False)]
        grey = np.stack([*turned, *self._films.pixels[films[_TURNED:]]])
        pixels = np.concatenate([self._others.pixels[some], np.repeat(grey[..., None], 3, axis=3)])
        names = [*(TURNED[c % 3] for c in choices), *[FRONTAL] * _FRONTAL]
        kinds = [*self._others.kinds[some].tolist(), *map(KINDS.index, names)]
        return self._vary_much(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255), torch.tensor(kinds)

    def _vary_much(self, images: torch.Tensor) -> torch.Tensor:
        """Another frame, collimation, sharpness, curve, exposure and grain to each, so that none of them tells the kind."""
        count = len(images)
        images = self._reframe(images)
        soft = functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
        images = images + (self._random(count) * 2.2 - 1.2) * (soft - images)  # from sharpened to soft
        images = images.clamp(0, 1) ** torch.exp(self._random(count) * 1.4 - 0.7)
        gain, lift = 0.6 + 0.7 * self._random(count), 0.3 * (self._random(count) - 0.5)
        grain = 0.05 * self._random(count) ** 2 * torch.randn(count, 1, *images.shape[2:], generator=self._rng)
        return self._collimate(((images - 0.5) * gain + 0.5 + lift + grain).clamp(0, 1))

    def _reframe(self, images: torch.Tensor) -> torch.Tensor:
        """Zoomed by 0.8 to 1.3 to each side, moved by up to a tenth, turned by up to ten degrees."""
        count = len(images)
        turn = 0.17 * (2 * self._random(count).flatten() - 1)
        zoom = torch.exp(0.46 * torch.rand(count, 2, generator=self._rng) - 0.26)
        move = 0.2 * (torch.rand(count, 2, generator=self._rng) - 0.5)
        cos, sin = turn.cos(), turn.sin()
        rows = [cos * zoom[:, 0], -sin * zoom[:, 1], move[:, 0], sin * zoom[:, 0], cos * zoom[:, 1], move[:, 1]]
        where = functional.affine_grid(torch.stack(rows, dim=1).view(count, 2, 3), list(images.shape), align_corners=False)
        return functional.grid_sample(images, where, padding_mode="border", align_corners=False)

    def _collimate(self, images: torch.Tensor) -> torch.Tensor:
        """Every third picture gets a black or white edge of up to an eighth on each side."""
        size = images.shape[-1]
        for number in range(0, len(images), 3):
            top, left, bottom, right = torch.randint(0, size // 8, (4,), generator=self._rng).tolist()
            paper = torch.full_like(images[number], float(torch.rand(1, generator=self._rng) < 0.2))
            paper[:, top : size - bottom, left : size - right] = images[number, :, top : size - bottom, left : size - right]
            images[number] = paper
        return images

    def _random(self, count: int) -> torch.Tensor:
        return torch.rand(count, 1, 1, 1, generator=self._rng)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """As the model's own transform: (n, 1 or 3, size, size), 0..1, to three channels."""
    return (images - MEAN) / STD


def on_patches(boxes: torch.Tensor, size: int, patch: int = 16) -> torch.Tensor:
    """How much of each patch (of each box, where the box is smaller) a box covers, (n, patches, findings)."""
    side = size // patch
    start = torch.arange(side) / side
    rows = (torch.minimum(boxes[..., 2:3], start + 1 / side) - torch.maximum(boxes[..., 0:1], start)).clamp(min=0)
    cols = (torch.minimum(boxes[..., 3:4], start + 1 / side) - torch.maximum(boxes[..., 1:2], start)).clamp(min=0)
    rows = rows / (boxes[..., 2:3] - boxes[..., 0:1]).clamp(min=1e-6, max=1 / side)  # (n, findings, side)
    cols = cols / (boxes[..., 3:4] - boxes[..., 1:2]).clamp(min=1e-6, max=1 / side)
    return (rows[..., :, None] * cols[..., None, :]).flatten(2).transpose(1, 2).clamp(0, 1)
