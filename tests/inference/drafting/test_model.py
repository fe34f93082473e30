"""The network against the reference's own numbers, and its fast paths against its plain one."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from inference.drafting import positions
from inference.drafting.config import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from inference.drafting.images import prepare
from inference.drafting.model import PAD, Ofa

CLOSE = {"atol": 2e-4, "rtol": 1e-5}
RESNET_CLOSE = {"atol": 5e-4, "rtol": 1e-5}


def close(found: torch.Tensor, wanted: torch.Tensor, **tolerance: float) -> None:
    torch.testing.assert_close(found, wanted, check_dtype=False, **(tolerance or CLOSE))


@pytest.mark.golden_forward
def test_golden_encoder_output(golden_set: Any, golden_name: str, golden_models: Any) -> None:
    encoded = golden_models.encode(golden_set, golden_name)
    wanted = golden_set.tensor(f"{golden_name}/{'encoder_last_hidden_state' if golden_set.is_hf else 'encoder_out'}")
    close(encoded.out[~encoded.padding], wanted[~encoded.padding])
    if not golden_set.is_hf:
        assert torch.equal(encoded.padding, golden_set.tensor(f"{golden_name}/encoder_padding_mask"))
        close(encoded.positions, golden_set.tensor(f"{golden_name}/position_embeddings"))


@pytest.mark.golden_forward
def test_golden_logits(golden_set: Any, golden_name: str, golden_models: Any) -> None:
    model, codes = golden_models.model(golden_set), golden_name == "code"
    target = golden_set.given(golden_name, "prev_output_tokens")
    with torch.inference_mode():
        state = model.decoder.begin(golden_models.encode(golden_set, golden_name), target.shape[1], codes=codes)
        logits = model.decode(target, state, codes=codes)
    real = target != PAD  # what is said of a position that is no position means nothing
    sums, ids = (golden_set.tensor(f"{golden_name}/logits_{n}") for n in ("logsumexp", "top20_ids"))
    close(logits.logsumexp(2)[real], sums[real])
    close(logits.gather(2, ids)[real], golden_set.tensor(f"{golden_name}/logits_top20_values")[real])
    whole = golden_set.arrays.get(f"{golden_name}/logits_full_0")
    if whole is not None:
        close(logits[0][real[0]], torch.from_numpy(whole)[real[0]])


@pytest.mark.golden_forward
def test_golden_log_probabilities_of_targets(golden_set: Any, golden_name: str, golden_models: Any) -> None:
    wanted = golden_set.tensor(f"{golden_name}/target_logprobs")
    if wanted is None:
        pytest.skip("this set holds no target log-probabilities for this case")
    model, codes = golden_models.model(golden_set), golden_name == "code"
    given, target = (golden_set.given(golden_name, n) for n in ("prev_output_tokens", "target"))
    with torch.inference_mode():
        state = model.decoder.begin(golden_models.encode(golden_set, golden_name), given.shape[1], codes=codes)
        logs = model.decode(given, state, codes=codes).log_softmax(2)
    real = (target != PAD) & (given != PAD)
    close(logs.gather(2, target[..., None])[..., 0][real], wanted[real])


@pytest.mark.golden_fairseq
def test_golden_intermediates(golden_set: Any, golden_models: Any) -> None:
    """ResNet, projection and the state before each layer, for the first sample of the caption case."""
    model, seen = golden_models.model(golden_set), {}

    def keep(name: str, *, before: bool) -> Any:
        def hook(_: Any, args: Any, result: Any = None) -> None:
            seen[name] = (args[0] if before else result)[0]

        return hook

    hooks = [
        model.encoder.embed_images.register_forward_hook(keep("resnet_out", before=False)),
        model.encoder.image_proj.register_forward_hook(keep("image_proj", before=False)),
    ]
    for stack, count in (("encoder", model.config.encoder_layers), ("decoder", model.config.decoder_layers)):
        part = getattr(model, stack)
        starts = [*(layer.self_attn_layer_norm for layer in part.layers), part.layer_norm]
        assert len(starts) == count + 1
        hooks += [m.register_forward_pre_hook(keep(f"{stack}_state_{i}", before=True)) for i, m in enumerate(starts)]
    target = golden_set.given("caption", "prev_output_tokens")
    with torch.inference_mode():
        model.decode(target, model.decoder.begin(golden_models.encode_anew(golden_set, "caption"), target.shape[1]))
    for hook in hooks:
        hook.remove()
    wanted = {name.split("/")[1] for name in golden_set.arrays if name.startswith("caption/") and name.endswith("_sample0")}
    assert {f"{name}_sample0" for name in seen} == wanted
    real = target[0] != PAD
    for name, found in seen.items():
        reference = golden_set.tensor(f"caption/{name}_sample0")
        if name.startswith("decoder"):
            found, reference = found[real], reference[real]
        close(found, reference, **(RESNET_CLOSE if name == "resnet_out" else CLOSE))


@pytest.mark.golden_fairseq
def test_golden_buckets(golden_set: Any, golden_models: Any) -> None:
    config = golden_models.model(golden_set).config
    tokens = positions.token_buckets(config.token_bucket, 1024)
    images = positions.image_buckets(config.image_bucket, torch.arange(config.image_bucket**2 + 1))
    for stack in ("encoder", "decoder"):
        assert sha256(tokens) == golden_set.facts[f"{stack}_token_rp_bucket_sha256_int64"]
        assert sha256(images) == golden_set.facts[f"{stack}_image_rp_bucket_sha256_int64"]
    assert torch.equal(tokens[700], golden_set.tensor("buckets/token_rp_bucket_row700"))
    codes = golden_set.tensor("buckets/decoder_image_position_idx")[: 1 + config.code_window**2]
    assert torch.equal(positions.code_positions(config.image_bucket, config.code_window, len(codes)), codes)


CASE_IMAGES = {"caption": (0, 1, 2), "vqa": (1, 2, 3), "classify": (0, 3)}


@pytest.mark.golden_fairseq
@pytest.mark.parametrize("case", CASE_IMAGES)
def test_golden_preprocessing(golden_set: Any, case: str) -> None:
    facts, wanted = golden_set.facts["cases"][case], golden_set.arrays[f"{case}/patch_images"]
    imagenet = case == "classify"
    if imagenet:
        assert tuple(facts["mean"]) == IMAGENET_MEAN
    settings = Preprocess(facts["patch_image_size"], *((IMAGENET_MEAN, IMAGENET_STD) if imagenet else ()))
    for image, reference in zip(CASE_IMAGES[case], wanted, strict=True):
        close(prepare(golden_set.arrays[f"images/{image}"], settings), torch.from_numpy(reference), atol=1e-6, rtol=0)


def sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.numpy().astype(np.int64).tobytes()).hexdigest()


def batch(config: Any) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    tokens = torch.randint(4, config.vocabulary, (3, 6))
    tokens[1, 4:] = PAD
    return tokens, torch.randn(3, 3, 64, 64)


def test_one_token_at_a_time_gives_the_logits_of_teacher_forcing(tiny_model: Ofa) -> None:
    tokens, images = batch(tiny_model.config)
    target = torch.randint(4, tiny_model.config.vocabulary, (3, 9))
    encoded = tiny_model.encode(tokens, images)
    together = tiny_model.decode(target, tiny_model.decoder.begin(encoded, 9))
    state = tiny_model.decoder.begin(encoded, 9)
    apart = torch.cat([tiny_model.decode(target[:, i : i + 1], state) for i in range(9)], dim=1)
    close(apart, together, atol=1e-4, rtol=1e-4)


def test_an_image_reads_the_same_alone_and_in_a_batch(tiny_model: Ofa) -> None:
    tokens, images = batch(tiny_model.config)
    together = tiny_model.encode(tokens, images)
    for i in range(3):
        alone = tiny_model.encode(tokens[i : i + 1, : int((tokens[i] != PAD).sum())], images[i : i + 1])
        close(together.out[i, : alone.out.shape[1]], alone.out[0], atol=1e-4, rtol=1e-4)


def test_a_hidden_image_changes_nothing(tiny_model: Ofa) -> None:
    tokens, images = batch(tiny_model.config)
    present = torch.tensor([True, False, True])
    other = images.clone()
    other[1] = torch.randn(3, 64, 64)
    one, two = (tiny_model.encode(tokens, x, present) for x in (images, other))
    real = ~one.padding
    assert torch.equal(one.out[real], two.out[real])
    assert not real[1, : -tokens.shape[1]].any()
    assert not torch.equal(one.out[0], tiny_model.encode(tokens, torch.zeros_like(images)).out[0])
