"""From frames to draft text."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.bundles import Bundle, write_manifest
from inference.drafting.config import DraftingConfig
from inference.drafting.drafter import NO_TEXT, UNIFORM, Drafter, load_model, split_sentences
from inference.drafting.generation import GenerationSettings, Hypothesis
from inference.drafting.model import EOS, Ofa
from inference.drafting.tokenizer import Tokenizer
from inference.errors import BundleError, DeviceError
from inference.reading import Frame, FrameSource

CPU = torch.device("cpu")


def frame(pixels: Any, uid: str = "1.2.3") -> Frame:
    return Frame(np.asarray(pixels, np.uint8), FrameSource(uid, "1.2", "1.2.4"), "DX")


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


UNREADABLE = {
    "one pixel": np.zeros((1, 1)),
    "one row": np.full((1, 40), 7),
    "black": np.zeros((30, 20)),
    "white": np.full((64, 64), 255),
    "one colour": np.broadcast_to(np.array([1, 2, 3]), (9, 8, 3)),
}


@pytest.mark.parametrize("pixels", UNREADABLE.values(), ids=UNREADABLE)
def test_an_image_without_content_gets_a_reason_and_no_text(tiny_bundle: Bundle, pixels: Any) -> None:
    (draft,) = Drafter.load(tiny_bundle, CPU).draft([frame(pixels)])
    assert (draft.sentences, draft.text, draft.reason) == ((), "", UNIFORM)
    assert draft.source == frame(pixels).source


def test_one_draft_per_frame_in_order_and_the_same_alone(tiny_bundle: Bundle) -> None:
    """Grey, RGB, tall, wide, uniform between: more than one batch."""
    shapes = [(64, 64), (80, 30), (30, 80, 3), (2, 2), (200, 200)] * 4
    frames = [frame(noise(*shape, seed=i), f"1.2.{i}") for i, shape in enumerate(shapes)]
    frames.insert(2, frame(np.zeros((9, 9)), "1.2.99"))
    drafter = Drafter.load(tiny_bundle, CPU)
    drafts = drafter.draft(frames)
    assert [d.source for d in drafts] == [f.source for f in frames]
    assert [bool(d.reason) for d in drafts].count(True) == 1
    for i in (0, 3, 17):
        (alone,) = drafter.draft([frames[i]])
        assert alone.text == drafts[i].text
        assert [s.confidence for s in alone.sentences] == pytest.approx([s.confidence for s in drafts[i].sentences], rel=1e-4)
    assert all(0 < s.confidence <= 1 and s.text == s.text.strip() for d in drafts for s in d.sentences)


def test_no_frames_no_drafts(tiny_bundle: Bundle) -> None:
    assert Drafter.load(tiny_bundle, CPU).draft([]) == []


class SilentModel(Ofa):
    """Ends every text before it begins."""

    def decode(self, tokens: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        logits = torch.zeros(*tokens.shape, self.config.vocabulary)
        logits[..., EOS] = 99
        return logits


def test_a_model_that_says_nothing_gets_a_reason(
    tiny_bundle: Bundle, tiny_drafting_config: DraftingConfig, tokenizer: Tokenizer
) -> None:
    caption = replace(tiny_drafting_config.caption, search=GenerationSettings(beam=1, max_length=4, min_length=0))
    config = replace(tiny_drafting_config, caption=caption)
    drafter = Drafter(tiny_bundle, SilentModel(config.model).eval(), tokenizer, config, CPU)
    (draft,) = drafter.draft([frame(noise(9, 9))])
    assert (draft.sentences, draft.reason) == ((), NO_TEXT)


SENTENCES = {
    "two": (" clear lungs. no effusion.", ["clear lungs.", "no effusion."]),
    "a decimal point ends nothing": (" nodule of 3.5 cm. no effusion.", ["nodule of 3.5 cm.", "no effusion."]),
    "no end": (" clear lungs", ["clear lungs"]),
    "question and cry": (" effusion? yes! end", ["effusion?", "yes!", "end"]),
    "space only": ("   ", []),
    "accents": (" épanchement à gauche. ça va.", ["épanchement à gauche.", "ça va."]),
}


@pytest.mark.parametrize(("text", "wanted"), SENTENCES.values(), ids=SENTENCES)
def test_sentences(tokenizer: Tokenizer, text: str, wanted: list[str]) -> None:
    tokens = (*tokenizer.encode(text), EOS)
    found = list(split_sentences(Hypothesis(tokens, 0.0, tuple(-0.1 for _ in tokens)), tokenizer))
    assert [s.text for s in found] == wanted
    assert all(s.confidence == pytest.approx(math.exp(-0.1)) for s in found)


def test_confidence_is_that_of_the_sentence(tokenizer: Tokenizer) -> None:
    first, second = tokenizer.encode(" clear lungs."), tokenizer.encode(" no effusion.")
    logs = (*[-0.2] * len(first), *[-1.0 - 0.1 * i for i in range(len(second))], -9.0)
    found = list(split_sentences(Hypothesis((*first, *second, EOS), 0.0, logs), tokenizer))
    assert found[0].confidence == pytest.approx(math.exp(-0.2))
    assert found[1].confidence == pytest.approx(math.exp(-1.0 - 0.1 * (len(second) - 1) / 2))


def test_tokens_that_are_no_text_are_left_out(tokenizer: Tokenizer) -> None:
    code = tokenizer.encode_symbols("<code_1>")
    tokens = (*code, *tokenizer.encode(" clear"), *code, *tokenizer.encode(" lungs."), EOS)
    (sentence,) = split_sentences(Hypothesis(tokens, 0.0, tuple(-0.5 for _ in tokens)), tokenizer)
    assert sentence.text == "clear lungs."


def edit_config(bundle: Bundle, **changes: Any) -> Bundle:
    path = bundle.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return write_manifest(bundle.folder, bundle.card)


CONFIG_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "damaged or incomplete"),
    "too large an image": ({"preprocess": {"size": 80, "mean": [0.5] * 3, "std": [0.5] * 3}}, r"outside 16\.\.64"),
    "no image": ({"preprocess": {"size": 0, "mean": [0.5] * 3, "std": [0.5] * 3}}, "outside"),
    "longer than its positions": ({"caption": {"prompt": " a", "search": {"max_length": 40}}}, "max_length must be below 40"),
    "no beam": ({"caption": {"prompt": " a", "search": {"beam": 0}}}, "beam ≥ 1"),
    "cold": ({"caption": {"prompt": " a", "search": {"temperature": 0}}}, "temperature > 0"),
    "two channels": ({"preprocess": {"size": 64, "mean": [0.5] * 2, "std": [0.5] * 2}}, "three numbers"),
    "unknown search setting": ({"caption": {"prompt": " a", "search": {"depth": 4}}}, "damaged or incomplete"),
    "other tokens": ({"codes": 9}, "tokens in its tokenizer"),
}


@pytest.mark.parametrize(("changes", "message"), CONFIG_FAULTS.values(), ids=CONFIG_FAULTS)
def test_a_bundle_that_contradicts_itself_is_refused(tiny_bundle: Bundle, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Drafter.load(edit_config(tiny_bundle, **changes), CPU)


def test_weights_of_another_model_are_refused(tiny_bundle: Bundle, tiny_drafting_config: DraftingConfig) -> None:
    other = replace(tiny_drafting_config, model=replace(tiny_drafting_config.model, decoder_layers=3))
    with pytest.raises(BundleError, match="not the model"):
        load_model(tiny_bundle, other)


def test_damaged_weights_are_refused(tiny_bundle: Bundle) -> None:
    (tiny_bundle.folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        Drafter.load(tiny_bundle, CPU)


def test_a_missing_file_is_named(tiny_bundle: Bundle) -> None:
    (tiny_bundle.folder / "config.json").unlink()
    with pytest.raises(BundleError, match=r"config\.json"):
        Drafter.load(write_manifest(tiny_bundle.folder, tiny_bundle.card), CPU)


class FailingModel(Ofa):
    def encode(self, *_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nand more")


def test_a_device_that_fails_is_a_retryable_error(
    tiny_bundle: Bundle, tiny_drafting_config: DraftingConfig, tokenizer: Tokenizer
) -> None:
    model = FailingModel(tiny_drafting_config.model)
    drafter = Drafter(tiny_bundle, model, tokenizer, tiny_drafting_config, CPU)
    with pytest.raises(DeviceError, match=r"out of memory\. Tried to allocate 2\.00 GiB\)$"):
        drafter.draft([frame(noise(9, 9))])


def test_a_device_that_is_not_there_is_named(tiny_bundle: Bundle) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device whose absence is tested")
    with pytest.raises(DeviceError, match="cuda"):
        Drafter.load(tiny_bundle, torch.device("cuda"))


def test_loading_changes_nothing_in_the_bundle(tiny_bundle: Bundle) -> None:
    before = {path: path.read_bytes() for path in Path(tiny_bundle.folder).iterdir()}
    Drafter.load(tiny_bundle, CPU).draft([frame(noise(20, 20))])
    assert {path: path.read_bytes() for path in Path(tiny_bundle.folder).iterdir()} == before
