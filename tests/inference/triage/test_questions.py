"""Closed questions: a softmax by hand as the oracle, ties, several images, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.bundles import Bundle
from inference.errors import CatalogueError
from inference.phantoms import draw_phantom
from inference.reading import Frame, FrameSource
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.contrastive import Triage
from inference.triage.questions import Candidate, answer, candidates_from, yes_or_no


class Plane:
    """Texts and pictures as angles in a plane, in degrees."""

    scale = 10.0

    def __init__(self, texts: dict[str, float], pictures: Sequence[float]) -> None:
        self._texts, self._pictures = texts, pictures

    def direction(self, texts: Sequence[str]) -> NDArray[np.float32]:
        mean = np.mean([unit(self._texts[text]) for text in texts], axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    def embed(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        return np.stack([unit(self._pictures[frame.source.frame_number - 1]) for frame in frames]).astype(np.float32)


def unit(degrees: float) -> NDArray[np.float64]:
    return np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def frames(count: int) -> list[Frame]:
    pixels = np.zeros((4, 4), np.uint8)
    return [Frame(pixels, FrameSource("1.2", "1.2.840.10008.5.1.4.1.1.1.1", "1.2", n + 1), "DX") for n in range(count)]


def test_one_picture_by_hand() -> None:
    plane = Plane({"left": 0, "right": 90}, [30])
    found = answer(plane, frames(1), candidates_from(["left", "right"]))
    left, right = math.exp(10 * math.cos(math.radians(30))), math.exp(10 * math.cos(math.radians(60)))
    assert [item.answer for item in found.ranked] == ["left", "right"]
    assert found.best.probability == pytest.approx(left / (left + right), abs=1e-6)
    assert sum(item.probability for item in found.ranked) == pytest.approx(1)
    assert (found.source, found.words) == (frames(1)[0].source, "the only image")


def test_several_pictures_are_averaged_and_the_surest_is_named() -> None:
    plane = Plane({"left": 0, "right": 90}, [80, 2, 10])
    found = answer(plane, frames(3), candidates_from(["right", "left"]))
    singles = [
        answer(Plane({"left": 0, "right": 90}, [angle]), frames(1), candidates_from(["right", "left"])) for angle in (80, 2, 10)
    ]
    left = [next(item.probability for item in single.ranked if item.answer == "left") for single in singles]
    assert found.best.answer == "left"
    assert found.best.probability == pytest.approx(np.mean(left))
    assert (found.source.frame_number, found.words) == (2, "mean of all 3 images")


def test_equals_keep_their_order() -> None:
    plane = Plane({"b": 45, "a": -45}, [0, 0])
    found = answer(plane, frames(2), candidates_from(["b", "a"]))
    assert [item.answer for item in found.ranked] == ["b", "a"]
    assert found.source.frame_number == 1


def test_an_answer_may_have_several_texts_and_a_template() -> None:
    plane = Plane({"x-ray of left": 0, "x-ray of right": 90, "up": 40, "down": 50}, [44])
    both = answer(plane, frames(1), [Candidate("mean", ("up", "down")), *candidates_from(["left", "right"], "x-ray of {}")])
    assert both.best.answer == "mean"
    assert {item.answer for item in both.ranked} == {"mean", "left", "right"}


@pytest.mark.parametrize(
    ("count", "candidates", "says"),
    [
        (0, candidates_from(["a", "b"]), "needs a picture"),
        (1, candidates_from(["a"]), "at least two"),
        (1, (), "at least two"),
        (1, candidates_from(["a", "b", "a"]), "'a' is given twice"),
        (1, (Candidate("a", ("a",)), Candidate("b", ())), "'b' has no text"),
        (1, (Candidate("a", ("a",)), Candidate("b", (" ",))), "'b' has no text"),
    ],
    ids=["no picture", "one answer", "no answer", "twice", "no text", "blank text"],
)
def test_what_is_no_question_is_refused(count: int, candidates: tuple[Candidate, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        answer(Plane({"a": 0, "b": 90, " ": 10}, [0]), frames(count), candidates)


def test_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no number"):
        answer(Plane({"a": 0, "b": 90}, [math.nan]), frames(1), candidates_from(["a", "b"]))


def test_a_real_model_answers_as_its_triage_scores(judges_all: Bundle, catalogue: FindingsCatalogue) -> None:
    """Yes against no with a finding's own texts is that finding's zero-shot probability."""
    triage = Triage.load(judges_all, catalogue, torch.device("cpu"))
    source = FrameSource("1.2", "1.2.840.10008.5.1.4.1.1.1.1", "1.2")
    film = Frame(draw_phantom(1, size=200).pixels, source, "DX", "CHEST", "PA")
    entry = catalogue.findings[0]
    sides = [Candidate("yes", catalogue.texts(entry.positive)), Candidate("no", catalogue.texts(entry.negative))]
    yes = {item.answer: item.probability for item in answer(triage, [film], sides).ranked}["yes"]
    assert yes == pytest.approx(float(triage.score([film])[0, 0]), abs=1e-5)
    with pytest.raises(CatalogueError, match="longer than"):
        answer(triage, [film], yes_or_no("lung " * 300, "no"))
