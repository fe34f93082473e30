"""Which arithmetic runs: behind the gate only, the fastest there, remembered; a broken fast tower is planted and refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.timm_model import TimmModel
from open_clip.transform import image_transform
from torch import nn

from inference.bundles import Bundle
from inference.engine import Engine
from inference.errors import BundleError
from inference.options import EngineOptions
from inference.phantoms import draw_phantom
from inference.reading import Frame, FrameSource, UseMode
from inference.triage import precision, tower
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.contrastive import Triage
from inference.triage.cuda_graphs import GraphedTower
from inference.triage.image_tower import ImageTower, NoRandomStart
from inference.triage.parity import BAND, COSINE, MOVE, NOISE, Parity, Questions, compare, reference_set
from inference.triage.precision import Bench, Encode, Way, choose, choose_among
from inference.triage.precision_record import RecordFile
from inference.triage.preparation import Preparation
from inference.triage.tower_forms import plan_of

CPU = torch.device("cpu")
SHIPPED = Path(__file__).resolve().parents[3] / "config" / "findings" / "chest_xray.yaml"


@pytest.fixture(scope="module")
def preparation() -> Preparation:
    return Preparation(image_transform(64, is_train=False))


@pytest.fixture(scope="module")
def published() -> ImageTower:
    torch.manual_seed(0)
    visual = TimmModel("test_vit", embed_dim=32, image_size=64, pool="", proj="linear")
    visual.trunk.set_input_size((64, 64))
    for name, weight in visual.named_parameters():
        if weight.ndim > 1 and "embed" not in name:
            nn.init.normal_(weight, std=1.0 / weight.shape[1] ** 0.5)
    return ImageTower(visual, torch.tensor(100.0).log()).eval()


@pytest.fixture(scope="module")
def questions() -> Questions:
    contrasts = np.random.default_rng(3).standard_normal((6, 32)).astype(np.float32) * 0.05
    return Questions(contrasts, np.full(6, 0.5), 100.0)


@pytest.fixture
def bench(published: ImageTower, preparation: Preparation, questions: Questions) -> Bench:
    return Bench(lambda pixels: published(preparation.normalise(pixels)), reference_set(preparation), questions)


@pytest.fixture
def no_file() -> RecordFile:
    return RecordFile(None, "model", CPU)


class Clock:
    """Seconds that pass only in a tower that is said to take them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def slow(self, encode: Encode, seconds: float) -> Encode:
        def encoded(pixels: torch.Tensor) -> torch.Tensor:
            self.now += seconds
            return encode(pixels)

        return encoded


def spoilt(encode: Encode, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], Encode]:
    return lambda: lambda pixels: change(encode(pixels))


def _turned(vectors: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(vectors + 0.1 * vectors.roll(1, dims=1), dim=-1)


def _one_bad(vectors: torch.Tensor) -> torch.Tensor:
    changed = vectors.clone()
    changed[0] = -changed[0]
    return changed


@pytest.mark.parametrize("wish", ["auto", "bfloat16"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_turned, "lowest cosine with float32 is 0.", id="every picture a little"),
        pytest.param(_one_bad, "lowest cosine with float32 is -1.0", id="one picture of ten"),
        pytest.param(lambda v: v * float("nan"), "lowest cosine with float32 is nan", id="no number"),
        pytest.param(torch.zeros_like, "lowest cosine with float32 is 0.0", id="nothing"),
    ],
)
def test_a_broken_fast_tower_is_refused(bench: Bench, no_file: RecordFile, wish: str, change: Any, says: str) -> None:
    chosen = choose_among([Way("planted", spoilt(bench.published, change))], wish, bench, no_file)
    assert chosen.name == "float32"
    assert chosen.encode is bench.published
    assert chosen.why.startswith(f"planted is refused: its {says}")


def test_a_tower_that_turns_a_decision_is_refused(bench: Bench, no_file: RecordFile) -> None:
    """Its cosine is high enough; one finding's probability lies in a direction that it bends."""
    bend = 0.03 * np.eye(32, dtype=np.float32)[0]
    logit = 10 * float(bench.reference().vectors[0, 0]) + 0.15  # a little above the first picture's own
    questions = Questions(np.eye(32, dtype=np.float32)[:1], np.array([1 / (1 + np.exp(-logit))]), 10.0)
    bent = spoilt(bench.published, lambda v: nn.functional.normalize(v + torch.from_numpy(bend), dim=-1))
    chosen = choose_among([Way("bent", bent)], "bfloat16", replace(bench, questions=questions), no_file)
    assert chosen.name == "float32"
    assert "decisions on the reference set turned" in chosen.why


def test_a_way_that_cannot_run_here_is_left(bench: Bench, no_file: RecordFile) -> None:
    def fail() -> Encode:
        raise RuntimeError("no such product\non this machine")

    chosen = choose_among([Way("absent", fail), Way("sound", lambda: bench.published)], "bfloat16", bench, no_file)
    assert chosen.name == "sound"
    assert choose_among([Way("absent", fail)], "auto", bench, no_file).why == (
        "absent does not run here (RuntimeError: no such product on this machine)"
    )


@pytest.mark.parametrize(
    ("slow", "wish", "runs"),
    [
        pytest.param({"float32": 5.0, "a": 2.0, "b": 1.0}, "auto", "b", id="the fastest"),
        pytest.param({"float32": 1.0, "a": 0.95, "b": 2.0}, "auto", "float32", id="float32 where nothing is faster"),
        pytest.param({"float32": 1.0, "a": 2.0}, "bfloat16", "a", id="as wished though slower"),
    ],
)
def test_the_measured_way_runs(bench: Bench, no_file: RecordFile, slow: dict[str, float], wish: str, runs: str) -> None:
    plain, clock = bench.published, Clock()
    slowed = replace(bench, published=clock.slow(plain, slow["float32"]), clock=clock)
    ways = [Way(name, lambda name=name: clock.slow(plain, slow[name])) for name in slow if name != "float32"]  # type: ignore[misc]
    assert choose_among(ways, wish, slowed, no_file).name == runs


def test_the_second_start_measures_nothing_but_passes_the_gate(bench: Bench, tmp_path: Path) -> None:
    calls = []

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        return slow(pixels)

    clock = Clock()
    slow = clock.slow(bench.published, 1.0)
    counting, ways = replace(bench, published=counted, clock=clock), [Way("fast", lambda: bench.published)]
    first = choose_among(ways, "auto", counting, RecordFile(tmp_path, "model", CPU))
    asked = len(calls)
    second = choose_among(ways, "auto", counting, RecordFile(tmp_path, "model", CPU))
    assert (first.name, second.name, asked, len(calls)) == ("fast", "fast", 3, 3)
    assert second.seconds == first.seconds
    broken = [Way("fast", spoilt(bench.published, _turned))]
    assert choose_among(broken, "auto", counting, RecordFile(tmp_path, "model", CPU)).name == "float32"
    choose_among(ways, "auto", counting, RecordFile(tmp_path, "another model", CPU))
    assert len(calls) == 6


@pytest.mark.parametrize("content", [b"", b"{}", b'{"identity": {}, "seconds": {}, "vectors": []}', b"\xff"])
def test_a_damaged_record_is_measured_anew(bench: Bench, tmp_path: Path, content: bytes) -> None:
    ways = [Way("fast", lambda: bench.published)]
    choose_among(ways, "bfloat16", bench, RecordFile(tmp_path, "model", CPU))
    (path,) = tmp_path.glob("*.speed")
    path.write_bytes(content)
    assert RecordFile(tmp_path, "model", CPU).read() is None
    assert choose_among(ways, "bfloat16", bench, RecordFile(tmp_path, "model", CPU)).name == "fast"
    assert RecordFile(tmp_path, "model", CPU).read() is not None


@pytest.mark.parametrize(
    ("parity", "says"),
    [
        pytest.param(Parity(COSINE, NOISE, MOVE, 0, 10), "", id="at the limits"),
        pytest.param(Parity(COSINE - 1e-6, 0.0, 0.0, 0, 10), "cosine", id="direction"),
        pytest.param(Parity(1.0, 0.0, 0.0, 1, 10), "1 of 10 decisions", id="decision"),
        pytest.param(Parity(1.0, 0.0, MOVE + 1e-6, 0, 10), "moved", id="probability"),
        pytest.param(Parity(1.0, 0.0, float("nan"), 0, 10), "moved", id="no number"),
        pytest.param(Parity(1.0, NOISE + 1e-6, 0.0, 0, 10), "distance between pictures", id="what tells pictures apart"),
    ],
)
def test_the_gate(parity: Parity, says: str) -> None:
    assert says in parity.refusal
    assert bool(parity.refusal) == bool(says)


@pytest.mark.parametrize(
    ("before", "after", "flips", "decisions"),
    [
        pytest.param(0.6, 0.4, 1, 1, id="turned to negative"),
        pytest.param(0.4, 0.6, 1, 1, id="turned to positive"),
        pytest.param(0.6, 0.51, 0, 1, id="moved but not turned"),
        pytest.param(0.5 + BAND / 2, 0.4, 0, 0, id="so near that rounding decides"),
    ],
)
def test_decisions_are_counted(before: float, after: float, flips: int, decisions: int) -> None:
    """One contrast along the first axis, so that a vector's logit can be set at will."""

    def vector(probability: float) -> np.ndarray[Any, np.dtype[np.float32]]:
        first = np.log(probability / (1 - probability))
        return np.array([[first, np.sqrt(1 - first**2)]], np.float32)

    questions = Questions(np.array([[1.0, 0.0]], np.float32), np.array([0.5]), 1.0)
    held = compare(vector(before), vector(after), questions)
    assert (held.flips, held.decisions) == (flips, decisions)
    assert held.move == pytest.approx(abs(before - after), abs=1e-6)


def test_a_form_that_is_not_known_runs_as_published(preparation: Preparation, questions: Questions) -> None:
    torch.manual_seed(0)
    visual = TimmModel("test_convnext", 32, 64, pool="avg", proj="linear")
    chosen = choose("auto", ImageTower(visual, torch.tensor(1.0)).eval(), preparation, questions, CPU)
    assert chosen.name == "float32"
    assert "form" in chosen.why


def test_another_wish_is_told(published: ImageTower, preparation: Preparation, questions: Questions) -> None:
    with pytest.raises(BundleError, match=r"engine\.precision is 'float8'; allowed: auto, float32, bfloat16"):
        choose("float8", published, preparation, questions, CPU)


@pytest.fixture(scope="module")
def films() -> list[Frame]:
    source = FrameSource("1.2.3", "1.2.840.10008.5.1.4.1.1.1.1", "1.2")
    grey = [Frame(draw_phantom(seed, size=180).pixels, source, "DX", "CHEST", "PA") for seed in range(11)]
    colour = Frame(np.stack([grey[0].pixels, grey[1].pixels, grey[2].pixels], axis=2), source, "DX")
    return [*grey[:5], colour, *grey[5:]]


def test_triage_in_bfloat16_decides_as_in_float32(
    random_bundle: Bundle, catalogue: FindingsCatalogue, films: list[Frame]
) -> None:
    exact = Triage.load(random_bundle, catalogue, CPU)
    half = Triage.load(random_bundle, catalogue, CPU, precision="bfloat16")
    assert (exact.precision, half.precision) == ("float32", "bfloat16")
    np.testing.assert_allclose(half.score(films), exact.score(films), atol=MOVE)
    assert (half.embed(films) * exact.embed(films)).sum(axis=1).min() > COSINE
    assert not np.array_equal(half.embed(films), exact.embed(films))


def test_frames_come_back_in_their_order(random_bundle: Bundle, catalogue: FindingsCatalogue, films: list[Frame]) -> None:
    """Grey and colour go in batches of their own."""
    for wish in ("float32", "bfloat16"):
        triage = Triage.load(random_bundle, catalogue, CPU, precision=wish)
        alone = np.concatenate([triage.embed([one]) for one in films])
        assert (triage.embed(films) * alone).sum(axis=1).min() > 0.9999


def test_a_planted_fault_in_the_product_is_refused_at_load(
    random_bundle: Bundle, catalogue: FindingsCatalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """oneDNN, or whatever makes the products, returns something slightly else."""

    class Faulty(tower.Dense):
        def added(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
            return super().added(x, residual.roll(1, dims=-1))

    monkeypatch.setattr(tower, "PackedDense", Faulty)
    monkeypatch.setattr(tower, "Dense", Faulty)
    caplog.set_level("INFO", precision.__name__)
    triage = Triage.load(random_bundle, catalogue, CPU, precision="bfloat16")
    assert triage.precision == "float32"
    assert "bfloat16 is refused" in triage.why
    assert "bfloat16 is refused" in caplog.text


def test_the_reading_says_what_ran(films: list[Frame], random_bundle: Bundle) -> None:
    options = EngineOptions(random_bundle.folder, None, SHIPPED, UseMode.RESEARCH, precision="bfloat16")
    engine = Engine.load(options)
    assert engine.read(films[:1]).precision == "triage bfloat16"
    assert engine.why.startswith("lowest cosine with float32 0.99")
    assert Engine.load(replace(options, precision="float32")).refuse("no image").precision == "triage float32"
    quick = Engine.load(replace(options, precision="float32", resizing="fast"))
    assert quick.refuse("no image").precision == "triage float32, fast resizing"


def test_cuda_graphs_are_not_for_a_cpu(published: ImageTower, preparation: Preparation) -> None:
    plan = plan_of(published.visual)
    assert plan is not None
    with pytest.raises(RuntimeError, match="CUDA"):
        GraphedTower(tower.FastTower(plan, preparation.normalised, CPU), CPU)


def test_full_size_holds_the_gate() -> None:
    """BiomedCLIP's image tower, ViT-B/16 at 224, with random weights; two pictures, for the time it takes."""
    torch.manual_seed(0)
    with NoRandomStart():
        visual = TimmModel("vit_base_patch16_224", embed_dim=512, image_size=224, pool="", proj="linear")
    for weight in visual.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=1.5 / weight.shape[1] ** 0.5)
    contrasts = np.random.default_rng(3).standard_normal((12, 512)).astype(np.float32) * 0.3 / 512**0.5
    preparation, published = Preparation(image_transform(224, is_train=False)), ImageTower(visual, torch.tensor(1.0)).eval()
    plan, pictures = plan_of(visual), reference_set(preparation)[1][:2]
    assert plan is not None
    with torch.inference_mode():
        reference = published(preparation.normalise(pictures)).numpy()
        fast = tower.FastTower(plan, preparation.normalised, CPU)(pictures).numpy()
    held = compare(reference, fast, Questions(contrasts, np.full(12, 0.5), 100.0))
    assert not held.refusal
    assert 0.9995 < held.cosine < 1 - 1e-9
