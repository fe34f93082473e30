"""How fast a draft is written, beside ``transformers.generate`` on a BART of equal shape.

``python benchmarks/drafting.py [--quick]``. Ours goes from an image (384 pixels) through the image front, encoder and search
to 60 tokens; the peer begins with as many source tokens as that image gives patches and words, so it has no image front to
compute. Both have random weights of base size (width 768, 6 + 6 layers, vocabulary 59457), the same beams and the same forced
length. Runs of the two follow each other in pairs, so that other work on the machine meets both; each figure is the best run,
each ratio the median over the pairs. The floor of a draft at batch 1 is what reading the decoder's weights once per token costs
at this machine's measured bandwidth; the encoder comes on top of it. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from inference.drafting.generation import GenerationSettings, Hypothesis, generate  # noqa: E402
from inference.drafting.layers import OfaConfig  # noqa: E402
from inference.drafting.model import EOS, Ofa  # noqa: E402
from inference.drafting.precision import measured_gain, prepare  # noqa: E402

TOKENS: Final = 60  # with the end
WORDS: Final = 9  # of the prompt
SIDE: Final = 384
SOURCE: Final = (SIDE // 16) ** 2 + WORDS
BASE: Final = OfaConfig(59457, 768, 3072, 12, 6, 6, resnet_layers=(3, 4, 23))
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Cell:
    precision: str
    batch: int
    beam: int

    def __str__(self) -> str:
        return f"{self.precision}, batch {self.batch}, {'greedy' if self.beam == 1 else f'beam {self.beam}'}"


# The most telling first: a run that is short of time ends after some of them.
CELLS: Final = tuple(
    Cell(precision, batch, beam)
    for batch, beam in ((1, 5), (8, 5), (1, 1), (8, 1), (64, 5), (64, 1))
    for precision in ("bfloat16", "float32")
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 s: batches of 1, and of 8 where there is time")
    parser.add_argument("--seconds", type=float, default=900, help="no further pair is begun that would end after so many")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    end = time.monotonic() + (34 if given.quick else given.seconds)
    cells = [cell for cell in CELLS if cell.batch in given.batches]
    print(json.dumps(run(cells, torch.device(given.device), 1 if given.quick else given.pairs, end)))


def run(cells: list[Cell], device: torch.device, pairs: int, end: float) -> dict[str, Any]:
    bandwidth = read_bandwidth(device)
    plain = random_model()
    gain = measured_gain(plain, device)
    ours: dict[str, Any] = {name: prepare(copy.deepcopy(plain), device, precision=name) for name in DTYPES}
    weights = decoder_weights(plain)
    del plain
    loaded = peak_megabytes()
    peer = random_peer().to(device)
    peers = {"float32": peer, "bfloat16": copy.deepcopy(peer).bfloat16()}
    figures, best, texts = {}, {}, {}
    for cell in cells:
        mine = Mine(ours[cell.precision].model, cell, device)
        if best and time.monotonic() + expected(cell, best) > end:
            continue
        found = compare(mine, Peer(peers[cell.precision], cell, device), pairs, end, device)
        found["floor_ms"] = weights * DTYPES[cell.precision].itemsize * TOKENS / bandwidth / 1e6
        figures[str(cell)], best[cell], texts[cell] = rounded(found), found, mine.last
        print(f"{cell}: {figures[str(cell)]}", flush=True)
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}",
        "torch": torch.__version__,
        "source_positions": SOURCE,
        "tokens": TOKENS,
        "read_bandwidth_gb_s": round(max(bandwidth, read_bandwidth(device)), 2),
        "bfloat16_gain_measured_at_load": round(gain, 2),
        "precision_of_ours": {name: made.precision for name, made in ours.items()},
        "cells": figures,
        "best_against_best": best_against_best(best),
        "bfloat16_against_float32": differences(texts, ours, device),
        "peak_mb_with_ours_in_both_precisions": loaded,
        "peak_mb": peak_megabytes(),
        "not_run_for_lack_of_time": [str(cell) for cell in cells if str(cell) not in figures],
    }


class Mine:
    """Images to 60 tokens by this project."""

    def __init__(self, model: Ofa, cell: Cell, device: torch.device) -> None:
        self.model, self.last = model, list[list[Hypothesis]]()
        self.settings = GenerationSettings(beam=cell.beam, max_length=TOKENS - 1, min_length=TOKENS - 1)
        self.images, self.words = inputs(cell.batch, device)

    @torch.inference_mode()
    def __call__(self) -> None:
        self.last = generate(self.model, self.model.encode(self.words, self.images), self.settings)
        assert all(len(h.tokens) == TOKENS for row in self.last for h in row)


class Peer:
    """Source tokens to 60 tokens by transformers."""

    def __init__(self, model: Any, cell: Cell, device: torch.device) -> None:
        self.model, self.cell = model, cell
        self.words = torch.randint(4, BASE.vocabulary, (cell.batch, SOURCE), generator=seeded(3)).to(device)
        self.mask = torch.ones_like(self.words)

    @torch.inference_mode()
    def __call__(self) -> None:
        found = self.model.generate(
            self.words,
            attention_mask=self.mask,
            num_beams=self.cell.beam,
            do_sample=False,
            min_new_tokens=TOKENS,
            max_new_tokens=TOKENS,
            use_cache=True,
        )
        assert found.shape == (self.cell.batch, TOKENS + 1)


def compare(ours: Mine, peer: Peer, pairs: int, end: float, device: torch.device) -> dict[str, Any]:
    """Best times of both in milliseconds a draft and the median ratios, of at least one pair."""
    batch, longest = len(ours.images), 0.0
    times: list[tuple[float, float, float, float]] = []
    for _ in range(2 if device.type == "cuda" else 0):  # graphs are recorded, kernels chosen
        measure(ours, device)
        measure(peer, device)
    while len(times) < pairs and (not times or time.monotonic() + longest < end):
        start = time.monotonic()
        times.append((*measure(ours, device), *measure(peer, device)))
        longest = max(longest, time.monotonic() - start)
    wall, cpu, peer_wall, peer_cpu = (min(column) * 1e3 / batch for column in zip(*times, strict=True))
    return {
        "ms_per_draft": wall,
        "studies_per_s": 1e3 / wall,
        "cpu_ms_per_draft": cpu,
        "peer_ms_per_draft": peer_wall,
        "peer_cpu_ms_per_draft": peer_cpu,
        "times_as_fast": statistics.median(row[2] / row[0] for row in times),
        "times_as_fast_cpu": statistics.median(row[3] / row[1] for row in times),
        "pairs": len(times),
    }


def expected(cell: Cell, found: dict[Cell, dict[str, Any]]) -> float:
    """Seconds that a pair of a cell may take, of the slowest study measured so far in this precision or another."""
    alike = [f for c, f in found.items() if c.precision == cell.precision] or list(found.values())
    each = max((f["ms_per_draft"] + f["peer_ms_per_draft"]) / 1e3 for f in alike)
    return each * cell.batch * (0.7 if cell.batch > 1 else 1.0)


def measure(work: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Seconds of wall clock and of processor time."""
    synchronise(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    synchronise(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def best_against_best(found: dict[Cell, dict[str, Any]]) -> dict[str, float]:
    """By batch and beam: the peer's fastest precision over ours, wall clock; only where both precisions were run."""
    ratios = {}
    for batch, beam in dict.fromkeys((cell.batch, cell.beam) for cell in found):
        both = [found[cell] for p in DTYPES if (cell := Cell(p, batch, beam)) in found]
        if len(both) == len(DTYPES):
            ratio = min(f["peer_ms_per_draft"] for f in both) / min(f["ms_per_draft"] for f in both)
            ratios[f"batch {batch}, beam {beam}"] = round(ratio, 2)
    return ratios


@torch.inference_mode()
def differences(texts: dict[Cell, list[list[Hypothesis]]], ours: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """What bfloat16 changes: ids of the drafts of random weights (which chance decides), and logits of a given text."""
    same = total = 0
    for cell, rows in texts.items():
        other = texts.get(Cell("bfloat16", cell.batch, cell.beam))
        if cell.precision == "float32" and other:
            pairs = [(a[0].tokens, b[0].tokens) for a, b in zip(rows, other, strict=True)]
            same += sum(x == y for a, b in pairs for x, y in zip(a, b, strict=True))
            total += sum(len(a) for a, _ in pairs)
    images, words = inputs(1, device)
    target = torch.randint(4, BASE.vocabulary, (1, 32), generator=seeded(4)).to(device)
    exact, half = (made.model(words, images, target) for made in ours.values())
    return {
        "ids_that_differ": round(1 - same / total, 4) if total else None,
        "logits_apart_at_most": round(float((exact - half).abs().max()), 4),
        "logits_deviation": round(float(exact.std()), 4),
        "probabilities_moved_at_most": round(float((exact.softmax(2) - half.softmax(2)).abs().sum(2).max() / 2), 5),
    }


def random_model() -> Ofa:
    """Base size. The embedding has the deviation it is trained from, so that no token stands out."""
    torch.manual_seed(1)
    model = Ofa(BASE).eval().requires_grad_(False)
    model.embed_tokens.weight.mul_(BASE.width**-0.5)
    return model


def random_peer() -> Any:
    from transformers import BartConfig, BartForConditionalGeneration  # after our peak memory was read

    config = BartConfig(
        vocab_size=BASE.vocabulary,
        d_model=BASE.width,
        encoder_layers=BASE.encoder_layers,
        decoder_layers=BASE.decoder_layers,
        encoder_attention_heads=BASE.heads,
        decoder_attention_heads=BASE.heads,
        encoder_ffn_dim=BASE.feed_forward,
        decoder_ffn_dim=BASE.feed_forward,
        max_position_embeddings=1024,
        dropout=0.0,
        forced_eos_token_id=None,
        decoder_start_token_id=EOS,
        attn_implementation="sdpa",
    )
    torch.manual_seed(2)
    return BartForConditionalGeneration(config).eval().requires_grad_(False)


def inputs(batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (B, 3, side, side) and words (B, WORDS)."""
    images = torch.randn((batch, 3, SIDE, SIDE), generator=seeded(5))
    words = torch.randint(4, BASE.vocabulary, (1, WORDS), generator=seeded(6)).expand(batch, -1)
    return images.to(device), words.to(device)


def decoder_weights(model: Ofa) -> int:
    """Weights that each token reads: the decoder's layers and the projection to the vocabulary, without what is read once."""
    once = sum(
        p.numel()
        for layer in model.decoder.layers
        for p in (*layer.encoder_attn.k_proj.parameters(), *layer.encoder_attn.v_proj.parameters())
    )
    return sum(p.numel() for p in model.decoder.layers.parameters()) - once + model.embed_tokens.weight.numel()


def read_bandwidth(device: torch.device) -> float:
    """GB/s of reading memory that no cache holds, the best of five."""
    size = 2**28 if device.type == "cuda" else 2**26
    values, best = torch.ones(size, device=device), float("inf")
    for _ in range(5):
        synchronise(device)
        start = time.perf_counter()
        values.sum()
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return size * 4 / best / 1e9


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}


if __name__ == "__main__":
    main()
