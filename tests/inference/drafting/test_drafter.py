"""From frames to draft text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.bundles import Bundle, write_manifest
from inference.drafting.config import (
    Classification,
    DraftingConfig,
    Nli,
    Summarisation,
    Vqa,
    default_tasks,
    read_config,
    write_config,
)
from inference.drafting.drafter import Drafter, load_model
from inference.drafting.generation import GenerationSettings
from inference.drafting.model import Ofa
from inference.drafting.results import DecoderPrompt, Task
from inference.drafting.runtime import UNIFORM
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
    assert (draft.sentences, draft.text, draft.reason) == ((), "", f"no draft: {UNIFORM}")
    assert draft.source == frame(pixels).source


def test_one_draft_per_frame_in_order_and_the_same_alone(tiny_bundle: Bundle) -> None:
    """Grey, RGB, tall, wide, uniform between: more than one batch."""
    shapes = [(64, 64), (80, 30), (30, 80, 3), (2, 2), (200, 200)] * 4
    frames = [frame(noise(*shape, seed=i), f"1.2.{i}") for i, shape in enumerate(shapes)]
    frames.insert(2, frame(np.zeros((9, 9)), "1.2.99"))
    drafter = Drafter.load(tiny_bundle, CPU)
    drafts = drafter.draft(frames)
    assert [d.source for d in drafts] == [f.source for f in frames]
    assert [bool(d.reason) for d in drafts] == [not d.sentences for d in drafts]
    assert [d.source for d in drafts if d.reason == f"no draft: {UNIFORM}"] == [frames[2].source]
    for i in (0, 3, 17):
        (alone,) = drafter.draft([frames[i]])
        assert (alone.text, alone.reason, alone.notes) == (drafts[i].text, drafts[i].reason, drafts[i].notes)
        assert [s.confidence for s in alone.sentences] == pytest.approx([s.confidence for s in drafts[i].sentences], rel=1e-4)
    assert all(0 < s.confidence <= 1 and s.text == s.text.strip() and s.source == d.source for d in drafts for s in d.sentences)


def test_no_frames_no_drafts(tiny_bundle: Bundle) -> None:
    assert Drafter.load(tiny_bundle, CPU).draft([]) == []


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
    "a task there is not": ({"tasks": ["caption", "poetry"]}, "poetry"),
    "a decoder prompt there is not": ({"vqa": {"decoder_prompt": "all"}}, "damaged or incomplete"),
    "an unknown setting of a task": ({"vqa": {"prompt_typ": "src"}}, "unknown setting 'prompt_typ'"),
    "a temperature of nothing": ({"classification": {"temperature": 0}}, "temperature must be above 0"),
    "labels that are one": ({"nli": {"labels": ["yes", "no", "yes"]}}, "three different words"),
    "no image of a study": ({"images_per_study": 0}, "images_per_study must be at least 1"),
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


def test_a_bundle_that_states_no_task_is_for_captions_with_the_published_settings(tiny_bundle: Bundle) -> None:
    path = tiny_bundle.folder / "config.json"
    old = {"model", "codes", "bins", "preprocess", "caption"}
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key in old}))
    config = read_config(path)
    assert config.tasks == (Task.CAPTION,)
    assert (config.vqa, config.classification, config.nli, config.summary) == (Vqa(), Classification(), Nli(), Summarisation())
    assert Drafter.load(write_manifest(tiny_bundle.folder, tiny_bundle.card), CPU).tasks == {Task.CAPTION}


def test_settings_of_tasks_are_read_as_written(tiny_bundle: Bundle, tiny_drafting_config: DraftingConfig) -> None:
    config = replace(
        tiny_drafting_config,
        tasks=(Task.VQA, Task.NLI),
        vqa=Vqa(DecoderPrompt.NONE, GenerationSettings(beam=3, max_length=9), 2.5),
        classification=Classification(" which organ?", 0.5),
        nli=Nli(DecoderPrompt.NONE, ("so", "not so", "perhaps")),
        summary=Summarisation(GenerationSettings(beam=2), 64),
        images_per_study=3,
    )
    write_config(config, tiny_bundle.folder)
    assert read_config(tiny_bundle.folder / "config.json") == config


def test_searches_end_where_the_model_has_no_more_positions(tiny_drafting_config: DraftingConfig) -> None:
    assert tiny_drafting_config.search(Task.VQA).max_length == tiny_drafting_config.model.max_positions - 1
    assert tiny_drafting_config.search(Task.CAPTION) == tiny_drafting_config.caption.search


TRAINED_FOR = {
    "caption": (Task.CAPTION,),
    "vqa_gen": (Task.VQA,),
    "image_classify": (Task.CLASSIFICATION,),
    "snli_ve": (Task.NLI,),
    "mednli": (Task.NLI,),
    "gigaword": (Task.SUMMARY,),
    "unify_task": (Task.CAPTION, Task.VQA),
    "": (Task.CAPTION, Task.VQA),
}


@pytest.mark.parametrize("name", TRAINED_FOR)
def test_what_a_checkpoint_is_fit_for(name: str) -> None:
    assert default_tasks(name) == TRAINED_FOR[name]
