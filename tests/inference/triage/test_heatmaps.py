"""Heat maps: on the finding, where the truth is known; made of what the model does; none where nothing is to be shown."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from inference.bundles import open_bundle
from inference.errors import BundleError
from inference.phantoms import KEYS, Box, Phantom, bundle_folder, draw_phantom
from inference.phantoms.films import BENCHMARK_SEEDS
from inference.reading import Decision, Finding, Frame, FrameSource, HeatMap
from inference.triage.attention import open_tower
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.contrastive import Triage
from inference.triage.heatmaps import check_tower, explain, heat_maps, relevance
from inference.triage.image_tower import ImageTower
from tests.inference.triage.test_attention import SIZE, TOWERS, WIDTH

CPU = torch.device("cpu")
EACH = 8  # films of each finding


@pytest.fixture(scope="module")
def triage(catalogue: FindingsCatalogue) -> Triage:
    return Triage.load(open_bundle(bundle_folder("biomedclip")), catalogue, CPU)


@pytest.fixture(scope="module")
def directions(triage: Triage, catalogue: FindingsCatalogue) -> dict[str, NDArray[np.float32]]:
    return dict(zip(catalogue.keys, triage.contrasts, strict=True))


@pytest.fixture(scope="module")
def films() -> list[tuple[str, Phantom]]:
    """Unseen films, each with one finding and nothing else."""
    first = BENCHMARK_SEEDS + 5_000
    return [
        (key, draw_phantom(first + 100 * place + number, frozenset([key]), 160))
        for place, key in enumerate(KEYS)
        for number in range(EACH)
    ]


def frame_of(pixels: NDArray[np.uint8], uid: str = "2.25.1") -> Frame:
    return Frame(pixels, FrameSource(uid, "1.2.840.10008.5.1.4.1.1.1.1", "2.25.9"), "DX", "CHEST", "PA")


def peak(item: HeatMap) -> tuple[float, float]:
    """Middle of the hottest cell, in pixels of the frame."""
    values = np.array(item.values)
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    top, left, bottom, right = item.box
    return top + (row + 0.5) / values.shape[0] * (bottom - top), left + (column + 0.5) / values.shape[1] * (right - left)


def hits(item: HeatMap, box: Box, size: int) -> bool:
    """Whether the hottest cell touches the box: the pointing game at the grid's own resolution."""
    row, column = peak(item)
    reach = (item.box[2] - item.box[0]) / len(item.values) / 2
    top, left, bottom, right = (edge * size for edge in box)
    return top - reach <= row <= bottom + reach and left - reach <= column <= right + reach


def test_the_hottest_place_is_the_finding(
    triage: Triage, directions: dict[str, NDArray[np.float32]], films: list[tuple[str, Phantom]]
) -> None:
    """The bar of the benchmark on a sample: pointing game at least 0.8 over all and no finding below five in eight."""
    found: dict[str, list[bool]] = {key: [] for key in KEYS}
    for key, film in films:
        (item,) = heat_maps(triage, frame_of(film.pixels), {key: directions[key]})
        found[key].append(hits(item, film.boxes[key], 160))
    assert np.mean(list(found.values())) >= 0.8
    assert min(sum(each) for each in found.values()) >= 5


@pytest.mark.parametrize("shape", [pytest.param((400, 256), id="tall"), pytest.param((256, 460), id="wide")])
def test_the_finding_is_found_on_frames_that_are_cut(
    triage: Triage, directions: dict[str, NDArray[np.float32]], shape: tuple[int, int]
) -> None:
    """A square film in the middle of a long plate: its finding keeps its place in the plate's own pixels."""
    good = 0
    for seed in range(300_000, 300_006):
        film = draw_phantom(seed, frozenset(["consolidation"]), 256)
        plate = np.zeros(shape, np.uint8)
        down, across = (shape[0] - 256) // 2, (shape[1] - 256) // 2
        plate[down : down + 256, across : across + 256] = film.pixels
        (item,) = heat_maps(triage, frame_of(plate), {"consolidation": directions["consolidation"]})
        row, column = peak(item)
        top, left, bottom, right = (edge * 256 for edge in film.boxes["consolidation"])
        good += top - 13 <= row - down <= bottom + 13 and left - 13 <= column - across <= right + 13
    assert good >= 5


def test_masking_the_hottest_patches_lowers_the_score_most(
    triage: Triage, directions: dict[str, NDArray[np.float32]], films: list[tuple[str, Phantom]]
) -> None:
    """Deletion test (Samek 2017): five patches of a hundred are greyed out, the hottest or, for comparison, any five."""
    rng, deepest, random = np.random.default_rng(4), [], []
    for key, film in films[::2]:
        frame = frame_of(film.pixels)
        (item,) = heat_maps(triage, frame, {key: directions[key]})
        order = np.argsort(np.array(item.values).ravel())[::-1]
        variants = [
            film.pixels,
            masked(film.pixels, order[:5]),
            *(masked(film.pixels, rng.permutation(100)[:5]) for _ in range(3)),
        ]
        scores = triage.embed([frame_of(pixels) for pixels in variants]) @ directions[key]
        deepest.append(scores[0] - scores[1])
        random.append(scores[0] - scores[2:].mean())
    assert np.mean(deepest) > 3 * max(np.mean(random), 0.02)
    assert np.mean(np.array(deepest) > np.array(random)) >= 0.75


def masked(pixels: NDArray[np.uint8], cells: NDArray[np.intp]) -> NDArray[np.uint8]:
    """With those of 10 × 10 cells set to what surrounds them."""
    grey = pixels.copy()
    for cell in cells:
        rows, columns = (slice(int(start) * 16, int(start) * 16 + 16) for start in divmod(cell, 10))
        around = pixels[max(rows.start - 8, 0) : rows.stop + 8, max(columns.start - 8, 0) : columns.stop + 8]
        grey[rows, columns] = np.median(around)
    return grey


def test_another_model_shows_another_place(
    triage: Triage, directions: dict[str, NDArray[np.float32]], films: list[tuple[str, Phantom]]
) -> None:
    """Sanity check (Adebayo 2018): with the weights of the upper blocks drawn anew the maps must not stay what they were."""
    same, other = twin(triage), twin(triage)
    torch.manual_seed(5)
    for block in open_tower(other.net).blocks[-4:]:
        for weight in (weight for weight in block.parameters() if weight.ndim == 2):
            nn.init.normal_(weight, std=float(weight.detach().std()))
    likeness = []
    for key, film in films[::5]:
        own, again, random = (
            heat_maps(model, frame_of(film.pixels), {key: directions[key]})[0] for model in (triage, same, other)
        )
        assert own == again
        likeness.append(rank_correlation(np.array(own.values).ravel(), np.array(random.values).ravel()))
    assert np.mean(likeness) < 0.5


def twin(triage: Triage) -> Triage:
    other = copy.copy(triage)
    other._image = replace(triage._image, tower=copy.deepcopy(triage.net))
    return other


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's, ties by position: maps have few."""
    return float(np.corrcoef(first.argsort().argsort(), second.argsort().argsort())[0, 1])


def test_positives_alone_on_the_image_that_decided(
    triage: Triage, catalogue: FindingsCatalogue, directions: dict[str, NDArray[np.float32]]
) -> None:
    frames = [
        frame_of(draw_phantom(seed, frozenset(["consolidation", "cardiomegaly"]), 160).pixels, f"2.25.{seed}")
        for seed in (1, 2)
    ]
    first, second = (frame.source for frame in frames)
    findings = [
        finding(catalogue, "nodule", Decision.NEGATIVE, first),
        finding(catalogue, "cardiomegaly", Decision.POSITIVE, second),
        finding(catalogue, "pneumothorax", Decision.NOT_ASSESSABLE, None),
        finding(catalogue, "consolidation", Decision.POSITIVE, first),
    ]
    maps = explain(triage, frames, findings, directions)
    assert [(item.key, item.source) for item in maps] == [("cardiomegaly", second), ("consolidation", first)]
    for item in maps:
        values = np.array(item.values)
        assert values.shape == (10, 10)
        assert (values.min() >= 0, values.max()) == (True, 1.0)
        assert item.box == (0, 0, 160, 160)
        assert item.method == "gradient-weighted attention rollout"
        assert len(json.dumps(item.values)) < 900
    assert explain(triage, frames, findings[:1], directions) == ()
    assert explain(triage, frames, findings, {}) == ()
    assert explain(triage, frames[:1], findings[1:2], directions) == ()


def finding(catalogue: FindingsCatalogue, key: str, decision: Decision, source: FrameSource | None) -> Finding:
    entry = next(entry for entry in catalogue.findings if entry.key == key)
    return Finding(entry.key, entry.code, entry.site, entry.urgency, entry.threshold, decision, source=source)


def test_maps_are_made_inside_inference_mode_too_and_are_always_the_same(
    triage: Triage, directions: dict[str, NDArray[np.float32]]
) -> None:
    frame = frame_of(draw_phantom(7, frozenset(["nodule"]), 160).pixels)
    outside = heat_maps(triage, frame, {"nodule": directions["nodule"]})
    with torch.inference_mode():
        inside = heat_maps(triage, frame, {"nodule": directions["nodule"]})
    together = heat_maps(triage, frame, {"device": directions["device"], "nodule": directions["nodule"]})
    assert inside == outside == together[1:]


@pytest.mark.parametrize("make", TOWERS.values(), ids=TOWERS)
def test_every_kind_of_tower_and_pooling_gives_a_map(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = ImageTower(make(), torch.zeros(())).eval()
    maps = relevance(net, open_tower(net), torch.randn(1, 3, SIZE, SIZE), torch.randn(2, WIDTH))
    assert maps.shape == (2, 10, 10)
    assert bool(((maps >= 0) & (maps <= 1)).all())
    assert maps.amax(dim=(1, 2)).tolist() == [1, 1]
    assert all(weight.grad is None for weight in net.parameters())


def test_the_rollout_is_the_papers() -> None:
    """Oracle: timm's own unfused attention, autograd through its softmax, and the paper's R = R + A R written out."""
    torch.manual_seed(1)
    net = ImageTower(TOWERS["BiomedCLIP's timm, class token"](), torch.zeros(())).double().eval()
    image, line = torch.randn(1, 3, SIZE, SIZE, dtype=torch.double), torch.randn(1, WIDTH, dtype=torch.double)
    tower = open_tower(net)
    first = len(tower.blocks) // 2
    mine = relevance(net, tower, image, line)[0]
    kept: list[torch.Tensor] = []
    for module in tower.attentions:
        module.fused_attn = False  # type: ignore[assignment]
        module.attn_drop.register_forward_hook(lambda _, __, out: kept.append(out))  # type: ignore[union-attr]
    score = net.encode_image(image, normalize=True)[0] @ line[0]
    relation = torch.eye(101, dtype=torch.double)
    for weights, gradient in zip(kept[first:], torch.autograd.grad(score, kept)[first:], strict=True):
        relation = relation + (weights * gradient).clamp(min=0).mean(dim=1)[0] @ relation
    patches = relation[0, 1:].reshape(10, 10)
    torch.testing.assert_close(mine, (patches / patches.max()).detach())


def test_a_model_without_heat_maps_is_told_at_start(triage: Triage) -> None:
    check_tower(triage)
    lame = copy.copy(triage)
    lame._image = replace(triage._image, tower=ImageTower(nn.Conv2d(3, 4, 3), torch.zeros(())))
    with pytest.raises(BundleError, match="set heat_maps: false"):
        check_tower(lame)
