"""Several images of a study: which are read, and one draft of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inference.drafting import tasks
from inference.drafting.generation import Hypothesis
from inference.drafting.model import EOS
from inference.drafting.results import Task
from inference.drafting.runtime import UNIFORM, Runtime
from inference.drafting.studies import NO_IMAGE, choose_images, draft_study, merge_drafts
from inference.reading import DraftReport, Frame, FrameSource, Sentence


def frame(name: str, view: str = "", size: int = 40, spread: int = 255) -> Frame:
    pixels = np.linspace(0, spread, size * size).reshape(size, size).astype(np.uint8)
    return Frame(pixels, FrameSource(name, "1.2", f"1.3.{name}"), "DX", view=view)


STUDIES: dict[str, tuple[list[Frame], int, list[str]]] = {
    "one image": ([frame("a")], 2, ["a"]),
    "PA before AP, whatever was sent first": ([frame("a", "AP"), frame("p", "PA")], 2, ["p"]),
    "a film that says before one that does not": ([frame("u"), frame("a", "AP")], 2, ["a"]),
    "frontal before lateral": ([frame("l", "LL"), frame("p", "PA")], 2, ["p", "l"]),
    "one lateral of two sides": ([frame("p", "PA"), frame("l", "LL"), frame("r", "RL", 50)], 3, ["p", "l"]),
    "only lateral": ([frame("l", "LATERAL")], 2, ["l"]),
    "the largest of a view": ([frame("s", "PA", 40), frame("b", "PA", 60)], 2, ["b"]),
    "of equal size the one with more to see": ([frame("pale", "PA", spread=20), frame("full", "PA")], 2, ["full"]),
    "of equals the first": ([frame("1"), frame("2")], 2, ["1"]),
    "the limit": ([frame("l", "LL"), frame("p", "PA"), frame("o", "RLO")], 1, ["p"]),
    "other views after these": ([frame("o", "RLO"), frame("l", "LL"), frame("p", "PA")], 3, ["p", "l", "o"]),
    "none": ([], 2, []),
}


@pytest.mark.parametrize(("frames", "limit", "wanted"), STUDIES.values(), ids=STUDIES)
def test_which_images_are_read(frames: list[Frame], limit: int, wanted: list[str]) -> None:
    assert [f.source.sop_instance_uid for f in choose_images(frames, limit)] == wanted


def test_a_single_pixel_and_colour_can_be_ranked() -> None:
    colour = Frame(np.zeros((3, 3, 3), np.uint8), FrameSource("c", "1", "1"), "XC")
    one = Frame(np.zeros((1, 1), np.uint8), FrameSource("1", "1", "1"), "XC")
    assert choose_images([one, colour], 1) == [colour]


def draft(name: str, *texts: str, reason: str = "", notes: tuple[str, ...] = ()) -> DraftReport:
    source = FrameSource(name, "1.2", "1.3")
    return DraftReport(tuple(Sentence(t, 0.9, source) for t in texts), reason=reason, source=source, notes=notes)


def test_what_each_image_adds() -> None:
    merged = merge_drafts([draft("p", "clear lungs.", "no effusion."), draft("l", "No effusion", "flat diaphragm.")])
    assert [(s.text, s.source and s.source.sop_instance_uid) for s in merged.sentences] == [
        ("clear lungs.", "p"),
        ("no effusion.", "p"),
        ("flat diaphragm.", "l"),
    ]
    assert merged.source == FrameSource("p", "1.2", "1.3")


def test_an_image_without_text_is_said() -> None:
    merged = merge_drafts([draft("p", reason="no draft: uniform"), draft("l", "clear lungs.", notes=("cut",))])
    assert merged.text == "clear lungs."
    assert merged.notes == ("cut", "one of the images gave no text: no draft: uniform")
    assert merged.source is not None
    assert merged.source.sop_instance_uid == "l"


NOTHING: dict[str, tuple[list[DraftReport], Any]] = {
    "one reason for both": ([draft("p", reason="uniform"), draft("l", reason="uniform")], "uniform"),
    "a reason each": ([draft("p", reason="uniform"), draft("l", reason="loop")], "uniform; loop"),
}


@pytest.mark.parametrize(("drafts", "reason"), NOTHING.values(), ids=NOTHING)
def test_no_text_at_all_has_its_reasons(drafts: list[DraftReport], reason: str) -> None:
    merged = merge_drafts(drafts)
    assert (merged.sentences, merged.reason) == ((), reason)


class Saying(Runtime):
    """Says set texts: of an image by its brightness (dark, bright), without an image the third."""

    texts: tuple[str, ...] = ()

    def encode(self, sources: Sequence[Any], frames: Sequence[Frame] | None = None) -> Any:
        return [2] * len(sources) if frames is None else [int(frame.pixels[-1, -1] > 100) for frame in frames]

    def search(self, encoded: Any, *_: Any, **__: Any) -> list[list[Hypothesis]]:
        said = [(*self.tokenizer.encode(self.texts[which]), EOS) for which in encoded]
        return [[Hypothesis(tokens, -1.0, tuple(-0.1 for _ in tokens))] for tokens in said]


@pytest.fixture
def saying(run: Runtime) -> Callable[..., Runtime]:
    def make(*texts: str, tasks: tuple[Task, ...] = (Task.CAPTION,)) -> Runtime:
        fake = Saying(run.model, run.tokenizer, replace(run.config, tasks=tasks), run.device)
        fake.texts = texts
        return fake

    return make


def film(uid: str, view: str, level: int) -> Frame:
    pixels = np.full((40, 40), level)
    pixels[0, 0] = 128
    return Frame(pixels.astype(np.uint8), FrameSource(uid, "1.2", f"1.3.{uid}"), "DX", view=view)


def blank(size: int) -> Frame:
    return Frame(np.zeros((size, size), np.uint8), FrameSource(str(size), "1.2", "1.3"), "DX")


def test_a_study_of_two_views_is_one_draft(saying: Callable[..., Runtime]) -> None:
    run = saying(" clear lungs. no effusion.", " no effusion. clear heart.")
    study = [film("lateral", "LL", 250), film("frontal", "PA", 5)]
    report = draft_study(run, study)
    assert [(s.text, s.source and s.source.sop_instance_uid) for s in report.sentences] == [
        ("clear lungs.", "frontal"),
        ("no effusion.", "frontal"),
        ("clear heart.", "lateral"),
    ]
    assert report.source == study[1].source
    assert report.impression == ()
    assert report.notes == ()
    one = draft_study(run, study, 1)
    assert (one.text, one.notes) == ("clear lungs. no effusion.", ("the draft was written from 1 of 2 images",))


def test_a_study_has_an_impression_where_the_model_can_write_one(saying: Callable[..., Runtime]) -> None:
    run = saying(" clear lungs.", " left effusion.", " normal.", tasks=(Task.CAPTION, Task.SUMMARY))
    report = draft_study(run, [film("frontal", "PA", 5)])
    assert [s.text for s in report.impression] == ["normal."]
    assert report.impression[0].source == report.source


def test_what_an_impression_lacks_is_said(saying: Callable[..., Runtime]) -> None:
    run = saying(" clear lungs.", " left effusion.", " no no no no", tasks=(Task.CAPTION, Task.SUMMARY))
    report = draft_study(run, [film("frontal", "PA", 5)])
    assert report.impression == ()
    assert any(note.startswith("no summary: the model repeated itself") for note in report.notes)


def test_a_study_that_shows_nothing_says_so(saying: Callable[..., Runtime]) -> None:
    run = saying(" clear lungs.", " left effusion.")
    assert draft_study(run, []).reason == NO_IMAGE
    assert draft_study(run, [blank(30), blank(1)]).reason == f"no draft: {UNIFORM}"


def test_a_repeating_model_gives_an_honest_empty_draft(saying: Callable[..., Runtime]) -> None:
    run = saying(" no no no no no no no", " left effusion. no no no no")
    dark, bright = tasks.draft(run, [film("dark", "PA", 5), film("bright", "PA", 250)])
    assert (dark.sentences, dark.reason) == ((), "no draft: the model repeated itself; its text was cut before the repetition")
    assert (bright.text, bright.reason) == ("left effusion.", "")
    assert len(bright.notes) == 1
