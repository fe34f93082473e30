"""Do heat maps point at what was drawn, and what do they cost? ``python benchmarks/heatmaps.py [--quick] [--pictures DIR]``.

Films that no model has seen, one finding or more on each, go the way of a real one. Figures, for each finding and over all:
  pointing  the pointing game (Zhang 2016): the hottest cell of the map touches the box of the finding
  strict    the same, but the map is enlarged smoothly and its single hottest pixel must lie inside the box
  energy    the share of the map's heat that lies inside the box, beside the share of the film that the box takes
  deletion  how much of the score is lost with the five hottest of a hundred cells greyed out, beside five cells at random
and milliseconds of CPU for a positive finding: with the phantom, and with random full-size BiomedCLIP and CLIP towers.
The last line is one JSON object. The bar: pointing at least 0.8 over all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import VisionTransformer
from open_clip.timm_model import TimmModel
from PIL import Image, ImageDraw

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from inference.bundles import open_bundle  # noqa: E402
from inference.phantoms import KEYS, Phantom, bundle_folder, draw_phantom  # noqa: E402
from inference.phantoms.films import BENCHMARK_SEEDS  # noqa: E402
from inference.reading import Frame, FrameSource, HeatMap  # noqa: E402
from inference.triage.attention import open_tower  # noqa: E402
from inference.triage.catalogue import load_catalogue  # noqa: E402
from inference.triage.contrastive import Triage  # noqa: E402
from inference.triage.heatmaps import heat_maps, relevance  # noqa: E402
from inference.triage.image_tower import ImageTower  # noqa: E402

_FIRST: Final = BENCHMARK_SEEDS + 50_000
_DELETED: Final = 5
FULL_SIZE: Final[dict[str, Callable[[], torch.nn.Module]]] = {
    "biomedclip_vit_b16": lambda: TimmModel("vit_base_patch16_224", embed_dim=512, image_size=224, pool="", proj="linear"),
    "clip_vit_b16": lambda: VisionTransformer(224, 16, 768, 12, 12, 4.0, output_dim=512),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 films of each finding, no full-size towers")
    parser.add_argument("--films", type=int, default=100, help="of each finding")
    parser.add_argument("--bundle", type=Path, default=bundle_folder("biomedclip"))
    parser.add_argument("--pictures", type=Path, help="a folder for films with their maps laid over, to look at")
    given = parser.parse_args()
    torch.set_num_threads(1)
    catalogue = load_catalogue(ROOT / "config" / "findings" / "chest_xray.yaml")
    triage = Triage.load(open_bundle(given.bundle), catalogue, torch.device("cpu"))
    contrasts = dict(zip(catalogue.keys, triage.contrasts, strict=True))
    shown = {key: measure(triage, key, contrasts[key], 20 if given.quick else given.films) for key in KEYS}
    if given.pictures:
        draw_pictures(triage, contrasts, given.pictures)
    whole = {name: round(float(np.mean([row[name] for row in shown.values()])), 4) for name in next(iter(shown.values()))}
    cost = {} if given.quick else {name: full_size_ms(make) for name, make in FULL_SIZE.items()}
    print(json.dumps({"bundle": triage.bundle.digest[:12], "findings": shown, "all": whole, "full_size_ms": cost}))


def measure(triage: Triage, key: str, contrast: NDArray[np.float32], films: int) -> dict[str, float]:
    """The figures of one finding over films that show it, every other one with a second finding beside."""
    rng = np.random.default_rng(KEYS.index(key))
    rows = []
    for number in range(films):
        seed = _FIRST + 1000 * KEYS.index(key) + number
        others = [other for other in KEYS if other != key]
        film = draw_phantom(seed, frozenset([key, str(rng.choice(others))] if number % 2 else [key]), 256)
        started = time.process_time()
        (item,) = heat_maps(triage, frame_of(film.pixels), {key: contrast})
        spent = (time.process_time() - started) * 1000
        rows.append([*place(item, film, key), *deletion(triage, film.pixels, item, contrast, rng), spent])
    names = ("pointing", "strict", "energy", "box_share", "deletion", "deletion_random", "ms")
    return {name: round(float(value), 4) for name, value in zip(names, np.mean(rows, axis=0), strict=True)}


def place(item: HeatMap, film: Phantom, key: str) -> tuple[float, float, float, float]:
    """pointing, strict, energy and the box's share of the film."""
    values, size = np.array(item.values, dtype=np.float32), film.pixels.shape[0]
    top, left, bottom, right = film.boxes[key]
    row, column = np.divmod(int(values.argmax()), values.shape[1])
    cell = 1 / values.shape[0]
    touches = row * cell < bottom and (row + 1) * cell > top and column * cell < right and (column + 1) * cell > left
    smooth = np.clip(enlarge(values, size), 0, None)
    hot_row, hot_column = (np.array(np.unravel_index(int(smooth.argmax()), smooth.shape)) + 0.5) / size
    strict = top <= hot_row <= bottom and left <= hot_column <= right
    inside = smooth[int(top * size) : int(np.ceil(bottom * size)), int(left * size) : int(np.ceil(right * size))]
    return float(touches), float(strict), float(inside.sum() / smooth.sum()), (bottom - top) * (right - left)


def deletion(
    triage: Triage, pixels: NDArray[np.uint8], item: HeatMap, contrast: NDArray[np.float32], rng: np.random.Generator
) -> tuple[float, float]:
    """Share of the score's height over "no finding at all" (0) that is lost: hottest cells greyed, and cells at random."""
    order = np.argsort(np.array(item.values).ravel())[::-1]
    chosen = [order[:_DELETED], *(rng.permutation(len(order))[:_DELETED] for _ in range(3))]
    grid = len(item.values)
    variants = [frame_of(pixels), *(frame_of(greyed(pixels, cells, grid)) for cells in chosen)]
    scores = triage.embed(variants) @ contrast
    height = max(float(scores[0]), 0.05)
    return float(scores[0] - scores[1]) / height, float(scores[0] - scores[2:].mean()) / height


def greyed(pixels: NDArray[np.uint8], cells: NDArray[np.intp], grid: int) -> NDArray[np.uint8]:
    """With those cells set to the middle grey of what surrounds them."""
    picture, side = pixels.copy(), pixels.shape[0] / grid
    for cell in cells:
        rows, columns = ((int(start * side), int((start + 1) * side)) for start in divmod(int(cell), grid))
        near = pixels[max(rows[0] - 12, 0) : rows[1] + 12, max(columns[0] - 12, 0) : columns[1] + 12]
        picture[slice(*rows), slice(*columns)] = np.median(near)
    return picture


def full_size_ms(make: Callable[[], torch.nn.Module], findings: int = 3) -> dict[str, float]:
    """CPU milliseconds of the forward pass alone, of one finding, and of each finding more."""
    torch.manual_seed(0)
    net = ImageTower(make(), torch.zeros(())).eval()
    image, lines = torch.randn(1, 3, 224, 224), torch.randn(findings, 512)
    with torch.inference_mode():
        alone = cpu_ms(lambda: net.encode_image(image))
    one = cpu_ms(lambda: relevance(net, open_tower(net), image, lines[:1]))
    more = cpu_ms(lambda: relevance(net, open_tower(net), image, lines))
    return {"forward": alone, "first_finding": one, "each_more": round((more - one) / (findings - 1), 1)}


def cpu_ms(work: Callable[[], object], times: int = 5) -> float:
    work()
    spent = []
    for _ in range(times):
        started = time.process_time()
        work()
        spent.append((time.process_time() - started) * 1000)
    return round(float(np.median(spent)), 1)


def draw_pictures(triage: Triage, contrasts: dict[str, NDArray[np.float32]], folder: Path) -> None:
    """For each finding six films with the map laid over and the true box drawn, as one PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for place_, key in enumerate(KEYS):
        films = [draw_phantom(_FIRST + 1000 * place_ + number, frozenset([key]), 320) for number in range(6)]
        pictures = [overlay(film, heat_maps(triage, frame_of(film.pixels), {key: contrasts[key]})[0]) for film in films]
        Image.fromarray(np.concatenate(pictures, axis=1)).save(folder / f"{key}.png")


def overlay(film: Phantom, item: HeatMap) -> NDArray[np.uint8]:
    size = film.pixels.shape[0]
    heat = np.clip(enlarge(np.array(item.values, dtype=np.float32), size), 0, 1)[..., None]
    red = np.array([255.0, 60.0, 0.0])
    image = Image.fromarray((film.pixels[..., None] * (1 - 0.6 * heat) + red * 0.6 * heat).astype(np.uint8))
    top, left, bottom, right = (edge * size for edge in film.boxes[item.key])
    ImageDraw.Draw(image).rectangle([left, top, right, bottom], outline=(90, 220, 255))
    return np.asarray(image)


def enlarge(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))


def frame_of(pixels: NDArray[np.uint8]) -> Frame:
    return Frame(pixels, FrameSource("2.25.1", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.2"), "DX", "CHEST", "PA")


if __name__ == "__main__":
    main()
