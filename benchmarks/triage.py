"""How fast the image tower is beside open_clip in float32: ``python benchmarks/triage.py [--quick] [--device cuda]``.

The tower has BiomedCLIP's form at full size (ViT-B/16 at 224, 86 M weights) with random weights.
Peers and ours take turns in one process on one thread, and the best of each is kept: a busy machine disturbs both alike.
The peer is open_clip's own image tower on float32 batches already normalised; ours starts from uint8 pixels.
Counted is the CPU time of the process. The last line is one JSON object.
The bar: at least 4 times open_clip's images per CPU-second in batches of 32 and 2.5 times one by one; on a CUDA device at least
10,000 images per second and 5 times open_clip in float32 on it (that part was written without such a device at hand).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from open_clip.timm_model import TimmModel  # noqa: E402
from open_clip.transform import image_transform  # noqa: E402

from inference.phantoms import draw_phantom  # noqa: E402
from inference.reading import Frame, FrameSource  # noqa: E402
from inference.triage.cuda_graphs import GraphedTower  # noqa: E402
from inference.triage.image_tower import ImageTower, NoRandomStart  # noqa: E402
from inference.triage.parity import Questions, compare, reference_set  # noqa: E402
from inference.triage.preparation import Preparation  # noqa: E402
from inference.triage.tower import Affine, Dense, FastTower, PackedDense, packs  # noqa: E402
from inference.triage.tower_forms import plan_of  # noqa: E402

GFLOP: Final = 35.1  # of one image: 2 x 17.5 giga multiply-adds
SIZE: Final = 224
BATCHES: Final = (1, 8, 32)
H200_FLOOR: Final = 22_500  # images per second, by 790 TFLOP/s measured in bfloat16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no memory figures")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(given.device)
    tower, preparation = full_size(device)
    with torch.inference_mode():
        figures: dict[str, Any] = {"device": given.device, "torch": torch.__version__}
        figures |= on_cuda(tower, preparation, device) if device.type == "cuda" else on_cpu(tower, preparation, given.quick)
        figures["preprocessing_cpu_ms"] = preprocessing(preparation, 5 if given.quick else 20)
    if not given.quick:
        figures["memory_mb"] = memory()
    print(json.dumps(figures))


def full_size(device: torch.device) -> tuple[ImageTower, Preparation]:
    """BiomedCLIP's image tower with random weights large enough that pictures come out far apart, and its preprocessing."""
    torch.manual_seed(0)
    with NoRandomStart():
        visual = TimmModel("vit_base_patch16_224", embed_dim=512, image_size=SIZE, pool="", proj="linear")
    for name, weight in visual.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.04 if "embed" in name else 1.5 / weight.shape[1] ** 0.5)
    tower = ImageTower(visual, torch.tensor(100.0).log()).eval().to(device)
    return tower, Preparation(image_transform(SIZE, is_train=False))


def on_cpu(tower: ImageTower, preparation: Preparation, quick: bool) -> dict[str, Any]:
    device, plan = torch.device("cpu"), plan_of(tower.visual)
    assert plan is not None
    fast = FastTower(plan, preparation.normalised, device)
    rates, walls = {}, {}
    for batch in BATCHES:
        rounds = max(1, (6 if quick else 24) // batch)
        pixels = torch.randint(0, 256, (batch, 1, SIZE, SIZE), dtype=torch.uint8)
        images = preparation.normalise(pixels)
        timed = take_turns({"open_clip_float32": lambda: tower(images), "bfloat16": lambda: fast(pixels)}, rounds)  # noqa: B023
        rates[batch] = {name: batch / cpu for name, (cpu, _) in timed.items()}
        walls[batch] = {name: 1000 * wall / batch for name, (_, wall) in timed.items()}
        print(batch, {name: round(rate, 2) for name, rate in rates[batch].items()}, flush=True)
    gemm = products()
    return {
        "packed_by_onednn": packs(device),
        "images_per_cpu_second": rounded(rates),
        "wall_ms_per_image": rounded(walls),
        "ratio": {batch: round(rate["bfloat16"] / rate["open_clip_float32"], 2) for batch, rate in rates.items()},
        "gemm_gflop_per_cpu_second": {name: round(rate) for name, rate in gemm.items()},
        "limit_images_per_cpu_second": {name: round(rate / GFLOP, 1) for name, rate in gemm.items()},
        "parity": parity(tower, fast, preparation),
    }


def on_cuda(tower: ImageTower, preparation: Preparation, device: torch.device) -> dict[str, Any]:
    """Images per second with the pixels already on the card, and from pinned memory."""
    plan, batch = plan_of(tower.visual), 256
    assert plan is not None
    fast = FastTower(plan, preparation.normalised, device)
    graphed = GraphedTower(fast, device)
    host = torch.randint(0, 256, (batch, 1, SIZE, SIZE), dtype=torch.uint8).pin_memory()
    pixels = host.to(device)
    images = preparation.normalise(pixels)
    ways: dict[str, Callable[[], Any]] = {
        "open_clip_float32": lambda: tower(images),
        "bfloat16": lambda: fast(pixels),
        "bfloat16_graph": lambda: graphed(pixels),
        "bfloat16_graph_from_host": lambda: graphed(host.to(device, non_blocking=True)),
    }
    rates = {name: batch / on_the_card(way) for name, way in ways.items()}
    return {
        "card": torch.cuda.get_device_name(device),
        "images_per_second": {name: round(rate) for name, rate in rates.items()},
        "ratio": round(rates["bfloat16_graph"] / rates["open_clip_float32"], 2),
        "floor_h200": H200_FLOOR,
        "parity": parity(tower, graphed, preparation),
    }


def on_the_card(way: Callable[[], Any], runs: int = 20) -> float:
    """Seconds of one run."""
    for _ in range(3):
        way()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(runs):
        way()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / runs


def take_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """The least CPU and wall seconds of each way over ``rounds`` in turn; the short ones go three times a round."""
    best: dict[str, tuple[float, float]] = {}
    for way in ways.values() if rounds > 1 else ():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            for _ in range(1 if name.startswith("open_clip") else 3):
                cpu, wall = time.process_time(), time.perf_counter()
                way()
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                held = best.get(name, (cpu, wall))
                best[name] = (min(cpu, held[0]), min(wall, held[1]))
    return best


def products() -> dict[str, float]:
    """The best rate of a large product alone, in GFLOP per CPU-second: what a tower of nothing else would reach."""
    rows, inner, outer = 8 * 197, 768, 3072
    plan, device = Affine(torch.randn(outer, inner) * 0.02, torch.zeros(outer)), torch.device("cpu")
    half = (PackedDense if packs(device) else Dense)(plan, device, torch.bfloat16)
    full = Dense(plan, device, torch.float32)
    x = torch.randn(rows, inner)
    y = x.bfloat16()
    timed = take_turns({"float32": lambda: full(x), "bfloat16": lambda: half(y)}, 15)
    return {name: 2e-9 * rows * inner * outer / cpu for name, (cpu, _) in timed.items()}


def parity(tower: ImageTower, fast: Callable[[torch.Tensor], torch.Tensor], preparation: Preparation) -> dict[str, Any]:
    """On the reference set, with directions of random prompts at BiomedCLIP's logit scale."""
    device = tower.logit_scale.device
    batches = [batch.to(device) for batch in reference_set(preparation)]
    published = torch.cat([tower(preparation.normalise(batch)) for batch in batches]).cpu().numpy()
    quick = torch.cat([fast(batch) for batch in batches]).cpu().numpy()
    drawn = np.random.default_rng(0).standard_normal((12, published.shape[1]))
    contrasts = 0.3 * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    held = compare(published, quick, Questions(contrasts.astype(np.float32), np.full(12, 0.5), 100.0))
    others = published @ published.T
    return {
        "lowest_cosine": round(held.cosine, 6),
        "error_of_distance_between_pictures": round(held.noise, 4),
        "largest_move_of_a_probability": round(held.move, 5),
        "flips": held.flips,
        "decisions": held.decisions,
        "lowest_cosine_between_pictures": round(float(others.min()), 3),
        "refusal": held.refusal,
    }


def preprocessing(preparation: Preparation, rounds: int) -> dict[str, float]:
    """CPU ms for a film of 2500 x 2500 grey pixels: as published, ours exact, ours fast."""
    small = draw_phantom(1, size=500).pixels
    pixels = np.ascontiguousarray(small.repeat(5, axis=0).repeat(5, axis=1))
    frame = Frame(pixels, FrameSource("2.25.1", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.1"), "DX")
    transform = image_transform(SIZE, is_train=False)
    quick = Preparation(transform, "fast")
    ways: dict[str, Callable[[], Any]] = {
        "open_clip_grey": lambda: transform(Image.fromarray(pixels)),
        "open_clip_rgb_first": lambda: transform(Image.fromarray(pixels).convert("RGB")),
        "exact": lambda: preparation.pixels(frame),
        "fast": lambda: quick.pixels(frame),
    }
    return {name: round(1000 * cpu, 2) for name, (cpu, _) in take_turns(ways, rounds).items()}


def memory() -> dict[str, float]:
    """Resident MB of a process that loaded the triage model: with its text tower, and without it as all prompts are known."""
    with tempfile.TemporaryDirectory() as folder:
        worker = [sys.executable, str(ROOT / "benchmarks" / "triage_memory.py"), folder]
        said = {name: subprocess.run([*worker, name], check=True, capture_output=True, text=True).stdout
                for name in ("make", "both", "first", "second")}  # fmt: skip
    return {name: json.loads(text.splitlines()[-1]) for name, text in said.items() if name != "make"}


def rounded(table: dict[int, dict[str, float]]) -> dict[int, dict[str, float]]:
    return {batch: {name: round(value, 2) for name, value in row.items()} for batch, row in table.items()}


if __name__ == "__main__":
    main()
