"""What arrives under chest tags and is no chest: the phantom model was trained to know it, and the engine says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.engine import Engine, load_triage
from inference.options import EngineOptions
from inference.phantoms import bundle_folder
from inference.phantoms.kinds import FRONTAL, KINDS, draw_kind
from inference.reading import Decision, Frame, FrameSource, UseMode
from inference.triage.catalogue import Kind, load_catalogue
from inference.triage.contrastive import Triage
from inference.triage.gate import Gate
from inference.triage.scope import KindJudge

CATALOGUE = Path(__file__).parents[2] / "config" / "findings" / "chest_xray.yaml"
OPTIONS = EngineOptions(bundle_folder("biomedclip"), None, CATALOGUE, UseMode.RESEARCH, device="cpu")
SEEDS = range(700, 708)  # below CHECKING_SEEDS: unseen in training
WRONG = [kind for kind in KINDS if kind != FRONTAL]


@pytest.fixture(scope="module")
def triage() -> Triage:
    return load_triage(OPTIONS)


@pytest.fixture(scope="module")
def judge(triage: Triage) -> KindJudge:
    """The model alone: the measured checks, which find some of these before it, are not part of it."""
    return Gate(load_catalogue(CATALOGUE), triage).judge


def pictures(kind: str) -> list[Frame]:
    sources = {seed: FrameSource(f"1.2.{seed}", "1.2.840.10008.5.1.4.1.1.1.1", f"1.3.{seed}") for seed in SEEDS}
    return [Frame(draw_kind(kind, seed, 224), source, "DX", "CHEST", "PA") for seed, source in sources.items()]


def refusals(judge: KindJudge, triage: Triage, kind: str) -> tuple[list[str], list[str]]:
    """Where the tags state body part and view, and where they leave the view out."""
    frames = pictures(kind)
    vectors = triage.embed(frames)
    without = [replace(frame, view="") for frame in frames]
    stated, unstated = (judge.verdicts(shown, vectors) for shown in (frames, without))
    return [verdict.refusal for verdict in stated], [verdict.refusal for verdict in unstated]


def test_every_kind_was_trained_and_is_asked(judge: KindJudge) -> None:
    assert {kind.key for kind in judge.kinds} == set(KINDS)


def test_no_frontal_film_is_refused(judge: KindJudge, triage: Triage) -> None:
    stated, unstated = refusals(judge, triage, FRONTAL)
    assert not any(stated + unstated)


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_chest_is_refused_by_name(judge: KindJudge, triage: Triage, kind: str) -> None:
    """Most of each kind even against complete tags; nearly all where the tags leave the view out."""
    stated, unstated = refusals(judge, triage, kind)
    assert sum(map(bool, stated)) >= 0.75 * len(SEEDS)
    assert sum(map(bool, unstated)) >= 0.85 * len(SEEDS)
    looks = f"looks like {named(judge, kind).display} ("
    assert sum(looks in reason for reason in stated) >= 0.7 * len(SEEDS)
    assert all(reason.endswith("its tags say DX CHEST PA") for reason in stated if reason)


def named(judge: KindJudge, key: str) -> Kind:
    return next(kind for kind in judge.kinds if kind.key == key)


def test_a_study_of_a_hand_under_chest_tags_is_not_assessable_and_one_chest_in_it_is_read() -> None:
    engine = Engine.load(OPTIONS)
    hands, chest = pictures("hand")[:3], pictures(FRONTAL)[0]
    reading = engine.read(hands)
    assert "the picture looks like a radiograph of a hand" in reading.reason
    assert {finding.decision for finding in reading.findings} == {Decision.NOT_ASSESSABLE}
    assert all(finding.reason == reading.reason for finding in reading.findings)
    both = engine.read([*hands, chest])
    assert (both.reason, both.sources) == ("", (chest.source,))
    assert len(both.skipped) == len(hands)
    alone = engine.read([chest])
    told = [
        [finding.probability for finding in reading.findings if finding.probability is not None] for reading in (both, alone)
    ]
    np.testing.assert_allclose(told[0], told[1], atol=1e-5)
