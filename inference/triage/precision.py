"""In which arithmetic the image tower runs: wished, checked against the published tower, measured, remembered.

    float32    the published tower as it is, the reference; nothing is measured
    bfloat16   half precision, where the gate of ``parity`` lets it through; float32 where it does not
    auto       whichever of the two, or of what else this device offers, is fastest behind the gate

The gate is passed at every start. The published tower's answers on the reference set and the seconds each way took are kept in
the cache folder, for one model, machine and set of library versions, so that only the first start measures.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import BundleError
from inference.triage.cuda_graphs import GraphedTower
from inference.triage.image_tower import ImageTower
from inference.triage.parity import Parity, Questions, compare, reference_set
from inference.triage.precision_record import Record, RecordFile
from inference.triage.preparation import Preparation
from inference.triage.tower import FastTower, TowerPlan
from inference.triage.tower_forms import plan_of

Precision = Literal["auto", "float32", "bfloat16"]
Encode = Callable[[torch.Tensor], torch.Tensor]  # uint8 (n, 1 or 3, rows, columns) to unit embeddings, float32 (n, width)

_WORTH: Final = 0.9  # a faster way must take less than this part of float32's time, or float32 stays

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way to run the tower. ``make`` may take seconds and may fail where the device lacks what it needs."""

    name: str
    make: Callable[[], Encode]


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What runs. ``name``: for a document. ``why``: for an operator.

    ``parity``: how it held against float32, where it was compared. ``seconds``: of one image, by way, where measured.
    """

    encode: Encode
    name: str
    why: str
    parity: Parity | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What ways are compared with: the published tower, the reference set and the questions decisions rest on."""

    published: Encode
    batches: list[torch.Tensor]
    questions: Questions
    clock: Callable[[], float] = time.perf_counter

    def run(self, encode: Encode) -> tuple[NDArray[np.float32], float]:
        """Embeddings of the set, float32 (images, width), and the seconds of one image.

        The second batch is timed: the first, of the same shape, may compile or fetch weights from the disk.
        """
        vectors, stamps = [], [0.0]
        with torch.inference_mode():
            for batch in self.batches:
                vectors.append(encode(batch).float().cpu().numpy())
                stamps.append(self.clock())
        return np.concatenate(vectors), (stamps[2] - stamps[1]) / len(self.batches[1])

    def reference(self) -> Record:
        """The published tower's answers, and its seconds for one image."""
        vectors, seconds = self.run(self.published)
        return Record(vectors, {"float32": seconds})


def choose(
    wish: str,
    tower: ImageTower,
    preparation: Preparation,
    questions: Questions,
    device: torch.device,
    records: Path | None = None,
    model: str = "",
) -> Chosen:
    """Choose and check how ``tower`` runs. ``records``: folder of what was measured, for the model of digest ``model``.

    Raises BundleError where ``wish`` is none of the words above.
    """
    if wish not in get_args(Precision):
        raise BundleError(f"engine.precision is {wish!r}; allowed: {', '.join(get_args(Precision))}")

    def published(pixels: torch.Tensor) -> torch.Tensor:
        return tower(preparation.normalise(pixels.to(device)))  # type: ignore[no-any-return]

    if wish == "float32":
        return Chosen(published, "float32", "as wished")
    plan = plan_of(tower.visual)
    if plan is None:
        return _told(Chosen(published, "float32", "this image tower's form has no faster way here"))
    bench = Bench(published, [batch.to(device) for batch in reference_set(preparation)], questions)
    ways = _ways(plan, preparation, device, wish)
    return _told(choose_among(ways, wish, bench, RecordFile(records, model, device)))


def _ways(plan: TowerPlan, preparation: Preparation, device: torch.device, wish: str) -> list[Way]:
    def fast() -> FastTower:
        return FastTower(plan, preparation.normalised, device)

    ways = [Way("bfloat16", fast)]
    if device.type == "cuda" and wish == "auto":
        ways.append(Way("bfloat16 graph", lambda: GraphedTower(fast(), device)))
    return ways


def choose_among(ways: Iterable[Way], wish: str, bench: Bench, file: RecordFile) -> Chosen:
    """The fastest way behind the gate (``wish`` auto), or the first behind it; float32 with the reason where there is none."""
    record = file.read()
    if record is None or len(record.vectors) != sum(map(len, bench.batches)):
        record = bench.reference()
    refused, best = [], None
    for way in ways:
        chosen, said = _try(way, bench, record)
        refused += [said] if said else []
        if chosen and (best is None or chosen.seconds[chosen.name] < best.seconds[best.name]):
            best = chosen
    file.write(record)
    if best is None:
        return Chosen(bench.published, "float32", "; ".join(refused), seconds=record.seconds)
    if wish == "auto" and record.seconds[best.name] > _WORTH * record.seconds["float32"]:
        return Chosen(bench.published, "float32", f"{best.name} is no faster on this machine", best.parity, record.seconds)
    return best


def _try(way: Way, bench: Bench, record: Record) -> tuple[Chosen | None, str]:
    """The way, or why not. Its time is measured only where no record has it."""
    try:
        encode = way.make()
        vectors, seconds = bench.run(encode)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, AttributeError) as error:  # a product that this build of torch does not have
        return None, f"{way.name} does not run here ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    record.seconds.setdefault(way.name, seconds)
    parity = compare(record.vectors, vectors, bench.questions)
    if parity.refusal:
        return None, f"{way.name} is refused: {parity.refusal}"
    why = f"lowest cosine with float32 {parity.cosine:.6f}, no decision turned of {parity.decisions}"
    return Chosen(encode, way.name, why, parity, record.seconds), ""


def _told(chosen: Chosen) -> Chosen:
    times = ", ".join(f"{name} {1000 * seconds:.1f} ms an image" for name, seconds in sorted(chosen.seconds.items()))
    _log.info("triage runs in %s: %s%s", chosen.name, chosen.why, f" ({times})" if times else "")
    return chosen
