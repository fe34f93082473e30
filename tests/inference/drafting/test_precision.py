"""What runs after loading: the same model in fewer operations, and bfloat16 only where it pays and changes little."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from inference.cache_files import read_checked, write_checked
from inference.drafting.generation import GenerationSettings, generate
from inference.drafting.model import Ofa
from inference.drafting.packed import PackedConvolution, PackedLinear, PackedNorm, packs
from inference.drafting.packing import fold, pack
from inference.drafting.precision import GAIN, LARGEST_SHIFT, gain_file, measured_gain, prepare
from tests.inference.drafting.conftest import forward_cases

CPU = torch.device("cpu")
PACKED = pytest.mark.skipif(not packs(torch.float32), reason="this torch lays no weights out for oneDNN")


@pytest.fixture
def calm_model(tiny_model: Ofa) -> Ofa:
    """Logits of the size that trained models have, so that rounding moves probabilities a little."""
    tiny_model.embed_tokens.weight.mul_(0.1)
    return tiny_model


def given(model: Ofa) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    tokens = torch.randint(4, model.config.vocabulary, (3, 6))
    tokens[1, 4:] = 1
    return tokens, torch.randn(3, 3, 64, 64), torch.randint(4, model.config.vocabulary, (3, 9))


def test_a_folded_model_computes_the_same(tiny_model: Ofa) -> None:
    wanted = tiny_model(*given(tiny_model))
    folded = fold(copy.deepcopy(tiny_model))
    torch.testing.assert_close(folded(*given(tiny_model)), wanted, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for _ in range(2):  # the second time its biases are remembered
        torch.testing.assert_close(folded(*given(tiny_model)), wanted, atol=1e-4, rtol=1e-4)


def test_remembered_biases_are_those_of_the_present_shape(tiny_model: Ofa) -> None:
    folded, (tokens, images, target) = fold(copy.deepcopy(tiny_model)), given(tiny_model)
    for cut, side in ((6, 64), (4, 64), (6, 32), (4, None), (6, 64)):
        pictures = None if side is None else images[:, :, :side, :side]
        wanted = tiny_model(tokens[:, :cut], pictures, target)
        torch.testing.assert_close(folded(tokens[:, :cut], pictures, target), wanted, atol=1e-4, rtol=1e-4)


@PACKED
def test_packing_takes_the_place_of_what_it_packs(tiny_model: Ofa) -> None:
    """A packed copy beside each weight would double the memory of the node."""
    packed = pack(fold(tiny_model))
    parts = [module for module in packed.modules() if isinstance(module, (PackedLinear, PackedConvolution))]
    assert len(parts) > 20
    kept = {name for name, parameter in packed.named_parameters() if parameter.dim() > 1}
    assert all("embed" in name or "rel_pos_table" in name for name in kept), kept


@PACKED
def test_packed_search_finds_the_same(tiny_model: Ofa) -> None:
    """Steps of a packed decoder, images that leave the batch on the way, against the plain weights."""
    tokens, images, _ = given(tiny_model)
    asked = GenerationSettings(beam=4, max_length=20)
    packed = pack(fold(copy.deepcopy(tiny_model)))
    with torch.inference_mode():
        wanted, found = (generate(model, model.encode(tokens, images), asked) for model in (tiny_model, packed))
    assert [[h.tokens for h in row] for row in found] == [[h.tokens for h in row] for row in wanted]
    for row, other in zip(found, wanted, strict=True):
        assert [h.score for h in row] == pytest.approx([h.score for h in other], abs=1e-3)


@PACKED
def test_a_packed_model_computes_the_same(tiny_model: Ofa) -> None:
    wanted = tiny_model(*given(tiny_model))
    packed = pack(fold(copy.deepcopy(tiny_model)))
    with torch.inference_mode():
        torch.testing.assert_close(packed(*given(tiny_model)), wanted, atol=1e-4, rtol=1e-4)
    assert isinstance(packed.output, PackedLinear)
    assert not any(type(module) in (nn.Linear, nn.Conv2d) for module in packed.modules())


@PACKED
@pytest.mark.parametrize("rows", [1, 5, 40, 41, 700])
@pytest.mark.parametrize("gelu", [False, True])
def test_packed_linear(rows: int, gelu: bool) -> None:
    linear, x = nn.Linear(48, 130), torch.randn(2, rows, 48)
    wanted = nn.functional.gelu(linear(x)) if gelu else linear(x)
    with torch.inference_mode():
        found = PackedLinear(linear.weight, linear.bias, gelu=gelu)(x)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@PACKED
def test_a_product_onto_what_there_is() -> None:
    linear, x, there = nn.Linear(48, 130), torch.randn(2, 5, 48), torch.randn(2, 5, 130)
    before = there.clone()
    with torch.inference_mode():
        found = PackedLinear(linear.weight, linear.bias).onto(there, x)
        torch.testing.assert_close(found, before + linear(x), atol=1e-5, rtol=1e-5)
    assert torch.equal(there, before)


@PACKED
def test_packed_norm() -> None:
    norm, x = nn.LayerNorm(48, eps=1e-3), torch.randn(2, 5, 48)
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.normal_()
    with torch.inference_mode():
        torch.testing.assert_close(PackedNorm(norm)(x), norm(x), atol=0, rtol=0)


@PACKED
@pytest.mark.parametrize(("side", "stride", "kernel"), [(24, 1, 3), (7, 2, 3), (9, 2, 1), (1, 1, 1), (33, 2, 7)])
def test_packed_convolution(side: int, stride: int, kernel: int) -> None:
    torch.manual_seed(side)
    conv = nn.Conv2d(6, 10, kernel, stride, kernel // 2).requires_grad_(False)
    x = torch.randn(2, 6, side, side).contiguous(memory_format=torch.channels_last)
    wanted = conv(x)
    with torch.inference_mode():
        packed, shortcut = PackedConvolution(conv, relu=False), torch.randn_like(wanted)
        torch.testing.assert_close(packed(x), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(PackedConvolution(conv, relu=True)(x), wanted.relu(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(packed.onto(shortcut.clone(), x), (shortcut + wanted).relu(), atol=1e-5, rtol=1e-5)


def test_float32_is_kept_where_it_is_asked_for(calm_model: Ofa) -> None:
    wanted = calm_model(*given(calm_model))
    ready = prepare(copy.deepcopy(calm_model), CPU, precision="float32")
    assert (ready.precision, ready.model.dtype) == ("float32", torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(ready.model(*given(calm_model)), wanted, atol=1e-4, rtol=1e-4)


def test_bfloat16_runs_and_moves_little(calm_model: Ofa) -> None:
    wanted = calm_model(*given(calm_model)).softmax(2)
    ready = prepare(copy.deepcopy(calm_model), CPU, precision="bfloat16")
    assert (ready.precision, ready.model.dtype) == ("bfloat16", torch.bfloat16)
    assert ready.model.embed_tokens.weight.dtype == torch.float32
    tokens, images, target = given(calm_model)
    with torch.inference_mode():
        logits = ready.model(tokens, images, target)
        found = generate(ready.model, ready.model.encode(tokens, images), GenerationSettings(beam=4, max_length=8))
    assert logits.dtype == torch.float32
    assert float((logits.softmax(2) - wanted).abs().sum(2).max() / 2) < LARGEST_SHIFT
    assert all(len(row) == 4 and row[0].tokens for row in found)


def test_bfloat16_that_changes_the_answer_is_refused(tiny_model: Ofa, caplog: pytest.LogCaptureFixture) -> None:
    tiny_model.embed_tokens.weight.mul_(40)  # logits of hundreds: what rounding moves decides
    wanted = tiny_model(*given(tiny_model))
    ready = prepare(copy.deepcopy(tiny_model), CPU, precision="bfloat16")
    assert (ready.precision, ready.model.dtype) == ("float32", torch.float32)
    assert "moves probabilities" in ready.why
    assert "float32" in caplog.text
    with torch.inference_mode():
        torch.testing.assert_close(ready.model(*given(tiny_model)), wanted, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize(("gain", "wanted"), [(GAIN + 0.1, "bfloat16"), (GAIN - 0.1, "float32"), (0.0, "float32")])
def test_auto_takes_what_was_measured(calm_model: Ofa, tmp_path: Path, gain: float, wanted: str) -> None:
    assert write_checked(gain_file(calm_model, CPU, tmp_path), str(gain).encode())
    ready = prepare(calm_model, CPU, precision="auto", cache=tmp_path)
    assert ready.precision == wanted
    assert f"{gain:.2f}" in ready.why


def test_auto_measures_once(calm_model: Ofa, tmp_path: Path) -> None:
    first = prepare(copy.deepcopy(calm_model), CPU, precision="auto", cache=tmp_path)
    written = read_checked(gain_file(calm_model, CPU, tmp_path))
    assert written is not None
    assert (float(written) >= GAIN) == (first.precision == "bfloat16")
    again = prepare(copy.deepcopy(calm_model), CPU, precision="auto", cache=tmp_path)
    assert again.precision == first.precision


def test_a_damaged_measurement_is_taken_again(calm_model: Ofa, tmp_path: Path) -> None:
    path = gain_file(calm_model, CPU, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"9.0")  # not behind its sha256
    prepare(calm_model, CPU, precision="auto", cache=tmp_path)
    assert read_checked(path) is not None


def test_the_gain_is_a_ratio_of_times(calm_model: Ofa) -> None:
    assert 0 <= measured_gain(calm_model, CPU) < 1000
    assert measured_gain(calm_model, torch.device("meta")) == 0


def test_another_word_is_refused(tiny_model: Ofa) -> None:
    with pytest.raises(ValueError, match="float16"):
        prepare(tiny_model, CPU, precision="float16")


def test_golden_bfloat16(golden_set: Any, golden_models: Any) -> None:
    """The reference's own inputs, in bfloat16: logits stay within what eight bits of mantissa give."""
    model = golden_models.model(golden_set)
    exact = prepare(copy.deepcopy(model), CPU).model
    half = prepare(copy.deepcopy(model), CPU, precision="bfloat16")
    if half.precision != "bfloat16":
        pytest.skip(f"the trial refuses bfloat16 for this set: {half.why}")
    for case in forward_cases(golden_set):
        wanted, found = (golden_logits(ready, golden_set, case) for ready in (exact, half.model))
        assert float((found - wanted).square().mean().sqrt()) < 0.03 * float(wanted.std()), case


@torch.inference_mode()
def golden_logits(model: Ofa, golden_set: Any, case: str) -> torch.Tensor:
    target = golden_set.given(case, "prev_output_tokens")
    encoded = model.encode(*(golden_set.given(case, name) for name in ("src_tokens", "patch_images", "patch_masks")))
    state = model.decoder.begin(encoded, target.shape[1], codes=case == "code")
    return model.decode(target, state, codes=case == "code")[target != 1]
