"""The engine on the phantom bundles: what it judges, what it refuses, and that it never stays silent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.engine import OTHER_MODELS, Engine
from inference.errors import BundleError, DeviceFull, LicenceError
from inference.options import EngineOptions, check_options
from inference.phantoms import bundle_folder
from inference.phantoms.draw import draw_phantom
from inference.reading import Decision, Frame, FrameSource, Reading, Skipped, UseMode
from inference.stages import DRAFT_FOLLOWS, Study

CATALOGUE = Path(__file__).parents[2] / "config" / "findings" / "chest_xray.yaml"
OPTIONS = EngineOptions(
    triage=bundle_folder("biomedclip"),
    drafting=bundle_folder("biomedgpt"),
    catalogue=CATALOGUE,
    mode=UseMode.ASSIST,
    device="cpu",
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(OPTIONS)


def film(seed: int = 7, findings: frozenset[str] = frozenset({"pneumothorax"}), **changes: str) -> Frame:
    source = FrameSource(f"1.2.{seed}", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3")
    frame = Frame(draw_phantom(seed, findings).pixels, source, modality="DX", body_part="CHEST", view="PA")
    return replace(frame, **changes)


def says_why_not(reading: Reading, words: str) -> bool:
    return (
        not reading.assessed
        and words in reading.reason
        and all(f.decision is Decision.NOT_ASSESSABLE and f.probability is None and f.reason for f in reading.findings)
        and not reading.draft.sentences
        and bool(reading.draft.reason)
    )


def test_a_pneumothorax_is_marked_and_drafted(engine: Engine) -> None:
    reading = engine.read([film()])
    found = {finding.key: finding for finding in reading.findings}
    assert found["pneumothorax"].decision is Decision.POSITIVE
    assert found["pneumothorax"].source == film().source
    assert "pneumothorax" in reading.draft.text
    assert reading.phantom
    assert [model.kind for model in reading.models] == ["biomedclip", "biomedgpt"]


def test_findings_the_model_never_learned_are_not_assessable(engine: Engine) -> None:
    found = {finding.key: finding for finding in engine.read([film()]).findings}
    assert found["rib_fracture"].decision is Decision.NOT_ASSESSABLE
    assert found["rib_fracture"].reason


REFUSED = {
    "CT": (film(modality="CT"), "CT"),
    "lateral": (film(view="LL"), "LL"),
    "hand": (film(body_part="HAND"), "HAND"),
    "negative": (replace(film(), pixels=np.invert(film().pixels)), "the picture looks like a negative"),
    "upside down": (replace(film(), pixels=film().pixels[::-1]), "its tags say DX CHEST PA"),
}


@pytest.mark.parametrize(("frame", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_catalogue_does_not_cover_is_not_assessable(engine: Engine, frame: Frame, words: str) -> None:
    reading = engine.read([frame])
    assert says_why_not(reading, words)
    assert reading.sources == ()


def test_nothing_to_read_still_answers(engine: Engine) -> None:
    assert says_why_not(engine.read([]), "holds no image")
    assert says_why_not(engine.read([], [Skipped("1.2", "it is a structured report, not an image")]), "structured report")
    assert says_why_not(engine.refuse("the disk burned"), "the disk burned")


def test_a_lateral_beside_a_frontal_is_named_and_does_not_decide(engine: Engine) -> None:
    lateral = replace(film(view="LL"), source=FrameSource("1.2.99", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"))
    reading = engine.read([lateral, film()])
    assert reading.sources == (film().source,)
    assert [skip.sop_instance_uid for skip in reading.skipped] == ["1.2.99"]


def test_the_same_frames_read_the_same(engine: Engine) -> None:
    assert engine.read([film(11, frozenset())]) == engine.read([film(11, frozenset())])


def test_without_a_drafting_model_the_reading_says_so() -> None:
    reading = Engine.load(replace(OPTIONS, drafting=None)).read([film()])
    assert reading.draft.reason == "no drafting model is configured for this reading"
    assert len(reading.models) == 1


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((200, 200), 90, np.uint8), "one grey"),
        (np.eye(20, dtype=np.uint8), "too small"),
        (np.zeros((1, 1), np.uint8), "small"),
    ],
    ids=["flat", "20 x 20", "1 x 1"],
)
def test_a_picture_of_nothing_is_not_assessable(engine: Engine, pixels: NDArray[np.uint8], words: str) -> None:
    assert says_why_not(engine.read([replace(film(), pixels=pixels)]), words)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"triage": Path("nowhere")}, BundleError, "wetread models import"),
        ({"triage": bundle_folder("biomedgpt")}, BundleError, "biomedgpt bundle"),
        ({"drafting": bundle_folder("biomedclip")}, BundleError, "biomedclip bundle"),
        ({"device": "cuda:0"}, BundleError, "no CUDA device"),
    ],
)
def test_what_cannot_be_loaded_is_told(change: dict[str, object], error: type[Exception], words: str) -> None:
    import torch

    if "device" in change and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(error, match=words):
        Engine.load(replace(OPTIONS, **change))  # type: ignore[arg-type]


def test_a_licence_is_enforced_before_a_model_is_loaded(tmp_path: Path) -> None:
    import json
    import shutil

    shutil.copytree(bundle_folder("biomedgpt"), tmp_path / "real")
    manifest = tmp_path / "real" / "bundle.json"
    data = json.loads(manifest.read_text())
    data["card"] |= {"phantom": False, "name": "BiomedGPT", "allowed_modes": ["research"]}
    manifest.write_text(json.dumps(data))
    options = replace(OPTIONS, drafting=tmp_path / "real")
    with pytest.raises(LicenceError, match="BiomedGPT"):
        check_options(options)
    check_options(replace(options, acknowledgements={"BiomedGPT": "the authors, in writing"}))
    check_options(replace(options, mode=UseMode.RESEARCH))


def test_positive_findings_are_shown_on_the_image_that_decided(engine: Engine) -> None:
    reading = engine.read([film(8, frozenset()), film()])
    assert {item.key for item in reading.heat_maps} == {finding.key for finding in reading.positives} >= {"pneumothorax"}
    for item in reading.heat_maps:
        assert item.source == next(finding.source for finding in reading.positives if finding.key == item.key)
        assert item.box == (0, 0, 512, 512)


def test_heat_maps_can_be_left_out() -> None:
    reading = Engine.load(replace(OPTIONS, drafting=None, heat_maps=False)).read([film()])
    assert reading.positives
    assert reading.heat_maps == ()


def _batch() -> list[Study]:
    """Studies of one film each, one of two, one that is not judged, one without images."""
    films = [film(seed, frozenset(found)) for seed, found in ((1, {"pneumothorax"}), (2, set()), (3, {"pleural_effusion"}))]
    lateral = film(4, view="LL")
    return [Study((films[0],)), Study((films[1], lateral)), Study((films[2],)), Study((film(5, modality="MG"),)), Study(())]


def test_studies_read_together_read_as_each_alone(engine: Engine) -> None:
    """Sums may be rounded otherwise in a batch of another size: probabilities agree to 1e-5, everything else is equal."""
    studies = _batch()
    together = engine.finish(engine.triage(studies))
    for study, found in zip(studies, together, strict=True):
        alone = engine.read(study.frames, study.skipped)
        assert _without_numbers(found) == _without_numbers(alone)
        for one, other in zip(found.findings, alone.findings, strict=True):
            assert one.probability == pytest.approx(other.probability, abs=1e-5)


def _without_numbers(reading: Reading) -> Reading:
    findings = tuple(replace(one, probability=None) for one in reading.findings)
    sentences = tuple(replace(one, confidence=round(one.confidence, 4)) for one in reading.draft.sentences)
    impression = tuple(replace(one, confidence=round(one.confidence, 4)) for one in reading.draft.impression)
    draft = replace(reading.draft, sentences=sentences, impression=impression)
    maps = tuple(replace(one, values=()) for one in reading.heat_maps)
    return replace(reading, findings=findings, draft=draft, heat_maps=maps, sketch=())


def test_findings_are_whole_before_their_draft(engine: Engine) -> None:
    (first,) = engine.triage([Study((film(),))])
    assert first.pending
    assert first.reading.draft.reason == DRAFT_FOLLOWS
    whole = engine.read([film()])
    assert replace(first.reading, draft=whole.draft) == whole


def test_saved_findings_are_taken_up_again(engine: Engine) -> None:
    (first,) = engine.triage([Study((film(),))])
    again = engine.resume(first.reading, [film(), film(8, modality="MG")])
    assert [frame.source for frame in again.frames] == [film().source]
    assert engine.finish([again]) == engine.finish([first])


def test_findings_of_other_models_get_no_draft_of_these(engine: Engine) -> None:
    (first,) = engine.triage([Study((film(),))])
    other = replace(first.reading, models=(replace(first.reading.models[0], digest="0" * 64), *first.reading.models[1:]))
    again = engine.resume(other, [film()])
    assert not again.pending
    assert again.reading.draft.reason == OTHER_MODELS
    assert engine.finish([again]) == [again.reading]


def test_a_full_device_is_given_smaller_batches_of_images(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory from within the tower's own call, above three images."""
    encoder = engine._triage._encode
    encode, sizes = encoder._encode, []

    def small(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return encode(pixels)

    studies = [Study((film(seed),)) for seed in range(8)]
    wanted = [one.reading.findings for one in engine.triage(studies)]
    monkeypatch.setattr(encoder, "_encode", small)
    found = [one.reading.findings for one in engine.triage(studies)]
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    for one, other in zip(found, wanted, strict=True):
        assert [finding.decision for finding in one] == [finding.decision for finding in other]
    monkeypatch.setattr(encoder, "_batch", 8)


def test_a_film_that_does_not_fit_is_a_full_device(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(engine._triage._encode, "_encode", full)
    with pytest.raises(DeviceFull, match="cpu: triage failed"):
        engine.read([film()])
