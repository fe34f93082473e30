"""Scope by tags and model together: what is refused, at which probability, and in which words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.bundles import Bundle, BundleCard, write_manifest
from inference.errors import BundleError
from inference.reading import Frame, FrameSource, UseMode
from inference.triage.catalogue import FindingsCatalogue, KindsScope, in_templates
from inference.triage.gate import Gate, Looked
from inference.triage.scope import asked_kinds, softmax
from inference.triage.trained import JUDGES, Trained, trained_for

SCALE = 20.0
NOTHING_IN_PARTICULAR = Trained(None, None)


def rules(catalogue: FindingsCatalogue) -> KindsScope:
    assert catalogue.scope.kinds is not None
    return catalogue.scope.kinds


class Axes:
    """An embedding in which every kind has an axis of its own and a picture lies where the test puts it."""

    scale = SCALE

    def __init__(self, bundle: Bundle, kinds: KindsScope, looks: dict[str, dict[str, float]]) -> None:
        self.bundle = bundle
        self._keys = [kind.key for kind in kinds.kinds]
        self._asked = {kind.key for kind in kinds.kinds if kind.zero_shot}
        self._texts = {text: kind.key for kind in kinds.kinds for text in in_templates(kinds.templates, kind.prompts)}
        self._looks = looks
        self.embedded: list[Frame] = []

    def direction(self, texts: Sequence[str]) -> NDArray[np.float32]:
        (key,) = {self._texts[text] for text in texts}
        return self._axis(key)

    def embed(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        """Where the softmax over the kinds gives the wished probabilities: their logarithms, by the scale."""
        self.embedded += frames
        return np.stack([self._vector(self._looks[frame.source.sop_instance_uid]) for frame in frames])

    def _vector(self, shares: dict[str, float]) -> NDArray[np.float32]:
        rest = (1 - sum(shares.values())) / len(self._asked - set(shares))
        wished = np.array([shares.get(key, rest if key in self._asked else 0.0) for key in self._keys])
        return np.log(np.maximum(wished, 1e-9)).astype(np.float32) / SCALE

    def _axis(self, key: str) -> NDArray[np.float32]:
        return np.eye(len(self._keys), dtype=np.float32)[self._keys.index(key)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made(tmp_path_factory.mktemp("free"))


def made(folder: Path, says: object = None) -> Bundle:
    if says is not None:
        (folder / JUDGES).write_text(says if isinstance(says, str) else json.dumps(says), "utf-8")
    card = BundleCard("axes", "biomedclip", "1", "a test", "Apache-2.0", "tests", tuple(UseMode))
    return write_manifest(folder, card)


def frame(uid: str = "1.2.1", body_part: str = "CHEST", view: str = "PA", series: str = "1.2", modality: str = "DX") -> Frame:
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    return Frame(pixels, FrameSource(uid, "1.2.840.10008.5.1.4.1.1.1.1", series), modality, body_part, view)


def look(catalogue: FindingsCatalogue, bundle: Bundle, shares: dict[str, float], picture: Frame) -> Looked:
    return Gate(catalogue, Axes(bundle, rules(catalogue), {picture.source.sop_instance_uid: shares})).look([picture])


@pytest.mark.parametrize(
    ("shares", "view", "refused"),
    [
        pytest.param({"chest_frontal": 0.97}, "PA", False, id="a chest"),
        pytest.param({"hand": 0.97}, "PA", True, id="a hand under chest tags"),
        pytest.param({"hand": 0.97}, "", True, id="a hand, view unstated"),
        pytest.param({"chest_frontal": 0.3, "hand": 0.69}, "PA", False, id="doubt does not overrule complete tags"),
        pytest.param({"chest_frontal": 0.3, "hand": 0.69}, "", True, id="doubt decides where the tags leave the view out"),
        pytest.param({"chest_frontal": 0.51, "hand": 0.48}, "", False, id="the chest leads, view unstated"),
        pytest.param({"chest_frontal": 0.02, "hand": 0.5, "limb": 0.45}, "PA", True, id="two refused kinds together"),
        pytest.param({"photograph": 0.99}, "AP", True, id="a photograph"),
        pytest.param({"chest_frontal": 0.2}, "", False, id="next to nothing is known, and the chest leads"),
    ],
)
def test_tags_and_model_decide_together(
    catalogue: FindingsCatalogue, bundle: Bundle, shares: dict[str, float], view: str, refused: bool
) -> None:
    looked = look(catalogue, bundle, shares, frame(view=view))
    assert bool(looked.refused) is refused
    assert len(looked.kept) == len(looked.vectors) == (0 if refused else 1)


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        pytest.param({}, "its tags say DX CHEST PA", id="complete"),
        pytest.param({"view": ""}, "its tags say DX CHEST and name no view", id="no view"),
        pytest.param({"body_part": "", "view": ""}, "its tags say DX and name no body part and no view", id="modality only"),
    ],
)
def test_the_reason_names_the_picture_and_the_tags(
    catalogue: FindingsCatalogue, bundle: Bundle, tags: dict[str, str], says: str
) -> None:
    looked = look(catalogue, bundle, {"hand": 0.97}, replace(frame(), **tags))
    looks = "the picture looks like a radiograph of a hand (probability 0.97), not like a frontal chest radiograph"
    assert [reason for _, reason in looked.refused] == [f"{looks}; {says}"]


def test_the_model_is_not_asked_of_what_the_tags_already_refuse(catalogue: FindingsCatalogue, bundle: Bundle) -> None:
    ct, chest, hand = frame("1.2.1", modality="CT"), frame("1.2.2"), frame("1.2.3")
    axes = Axes(bundle, rules(catalogue), {"1.2.2": {"chest_frontal": 0.99}, "1.2.3": {"hand": 0.99}})
    looked = Gate(catalogue, axes).look([ct, hand, chest])
    assert axes.embedded == [hand, chest]
    assert [source.sop_instance_uid for source, _ in ((f.source, r) for f, r in looked.refused)] == ["1.2.1", "1.2.3"]
    assert looked.kept == (chest,)
    np.testing.assert_array_equal(looked.vectors, axes.embed([chest]))


def test_nothing_to_look_at(catalogue: FindingsCatalogue, bundle: Bundle) -> None:
    looked = Gate(catalogue, Axes(bundle, rules(catalogue), {})).look([])
    assert (looked.verdicts, looked.kept, len(looked.vectors)) == ((), (), 0)


def test_slices_of_a_series_are_judged_by_their_mean(catalogue: FindingsCatalogue, bundle: Bundle) -> None:
    """One slice in four looks like something else: by image it is refused, by series it is not, and other series are apart."""
    looks = {f"1.2.{n}": {"chest_frontal": 0.95} for n in range(3)} | {"1.2.3": {"ct": 0.95}, "1.2.9": {"ct": 0.95}}
    frames = [frame(uid) for uid in ("1.2.0", "1.2.1", "1.2.2", "1.2.3")] + [frame("1.2.9", series="1.3")]
    by_image = Gate(catalogue, Axes(bundle, rules(catalogue), looks)).look(frames)
    assert [f.source.sop_instance_uid for f, _ in by_image.refused] == ["1.2.3", "1.2.9"]
    scope = replace(catalogue.scope, kinds=replace(rules(catalogue), by_series=True))
    by_series = Gate(replace(catalogue, scope=scope), Axes(bundle, rules(catalogue), looks)).look(frames)
    assert [f.source.sop_instance_uid for f, _ in by_series.refused] == ["1.2.9"]
    assert by_series.verdicts[3][1].outside == pytest.approx(by_series.verdicts[0][1].outside)


def test_a_picture_without_numbers_is_left_to_the_findings(catalogue: FindingsCatalogue, bundle: Bundle) -> None:
    """They are NOT_ASSESSABLE then (test_judge): a scope made of NaN would be a guess."""
    axes = Axes(bundle, rules(catalogue), {"1.2.1": {"hand": float("nan")}})
    assert not Gate(catalogue, axes).look([frame()]).refused


def test_which_kinds_are_asked(catalogue: FindingsCatalogue) -> None:
    free = {kind.key for kind in asked_kinds(rules(catalogue), NOTHING_IN_PARTICULAR)}
    assert {"chest_frontal", "hand", "photograph"} <= free
    assert not free & {"inverted", "upside_down", "rotated"}
    trained = Trained(frozenset(), frozenset({"chest_frontal", "inverted", "unknown"}))
    assert {kind.key for kind in asked_kinds(rules(catalogue), trained)} == {"chest_frontal", "inverted"}


@pytest.mark.parametrize(
    "kinds",
    [frozenset(), frozenset({"chest_frontal"}), frozenset({"hand", "ct"})],
    ids=["none", "accepted only", "refused only"],
)
def test_a_model_that_cannot_tell_two_sides_apart_is_not_asked(
    catalogue: FindingsCatalogue, tmp_path: Path, kinds: frozenset[str]
) -> None:
    assert asked_kinds(rules(catalogue), Trained(frozenset(), kinds)) == ()
    says = {"findings": [], "kinds": sorted(kinds)}
    assert not look(catalogue, made(tmp_path, says), {"hand": 0.99}, frame()).refused


def test_the_check_can_be_left_out(catalogue: FindingsCatalogue, bundle: Bundle) -> None:
    off = replace(catalogue, scope=replace(catalogue.scope, kinds=None))
    axes = Axes(bundle, rules(catalogue), {"1.2.1": {"hand": 0.99}})
    assert Gate(off, axes).look([frame()]).kept


@pytest.mark.parametrize(
    ("says", "wanted"),
    [
        pytest.param(None, Trained(None, None), id="no file: any question"),
        pytest.param({"findings": ["nodule"]}, Trained(frozenset({"nodule"}), frozenset()), id="no kinds: none known"),
        pytest.param({"findings": [], "kinds": ["hand"]}, Trained(frozenset(), frozenset({"hand"})), id="kinds"),
    ],
)
def test_what_a_bundle_was_trained_for(tmp_path: Path, says: object, wanted: Trained) -> None:
    assert trained_for(made(tmp_path, says)) == wanted


@pytest.mark.parametrize("says", ["", "[]", "{}", '{"findings": 3}', '{"findings": [], "kinds": 3}'])
def test_a_damaged_list_is_told(tmp_path: Path, says: str) -> None:
    with pytest.raises(BundleError, match="damaged"):
        trained_for(made(tmp_path, says))


def test_softmax_by_its_definition() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [1000.0, 1000.0, -1000.0]])
    wanted = np.array([np.exp([1.0, 2.0, 3.0]) / np.exp([1.0, 2.0, 3.0]).sum(), [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(softmax(logits), wanted, atol=1e-12)
