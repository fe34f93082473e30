"""The phantom BiomedGPT: that it can be trained through the real form, and that the shipped one reports what was drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.bundles import open_bundle, verify_bundle
from inference.drafting.drafter import Drafter
from inference.phantoms import bundle_folder, train_drafting
from inference.phantoms.score_drafting import FIRST_UNSEEN_SEED, named_findings, score_drafter
from inference.reading import UseMode

SHIPPED = bundle_folder("biomedgpt")

TEXTS = {
    "named": (["small left pneumothorax.", "no pleural effusion."], {"pneumothorax": "left"}),
    "denied": (["clear lungs.", "normal heart size.", "no pleural effusion.", "no pneumothorax."], {}),
    "two": (
        ["there is a large left pleural effusion.", "right mid zone nodule."],
        {"pleural_effusion": "left", "nodule": "right"},
    ),
    "capitals, no side": (["Tracheal tube device in place.", "No pneumothorax."], {"device": ""}),
    "without": (["clear lungs without consolidation."], {}),
    "nothing": ([], {}),
}


@pytest.mark.parametrize(("sentences", "wanted"), TEXTS.values(), ids=TEXTS)
def test_what_sentences_name(sentences: list[str], wanted: dict[str, str]) -> None:
    assert named_findings(sentences) == wanted


def test_training_makes_a_bundle_of_the_real_form(tmp_path: Path) -> None:
    bundle = train_drafting.train(tmp_path / "bundle", films=8, epochs=0.5, seconds=60, seed=3)
    verify_bundle(bundle)
    assert bundle.card.phantom
    assert set(bundle.card.allowed_modes) == set(UseMode)
    assert "not for patients" in bundle.card.intended_use
    score = score_drafter(Drafter.load(bundle, torch.device("cpu")), range(3), size=64)
    assert score.films == 3


def test_training_films_are_not_those_of_the_figures() -> None:
    assert FIRST_UNSEEN_SEED + 100_000 < train_drafting.FIRST_TRAINING_SEED


def test_patches_of_a_box() -> None:
    """The film is 8 patches a side."""
    assert train_drafting.GRID == 8
    cases = {(0.0, 1.0): slice(0, 8), (0.5, 0.75): slice(4, 6), (0.51, 0.54): slice(4, 5), (0.99, 1.0): slice(7, 8)}
    assert {box: train_drafting.covered(*box) for box in cases} == cases


def test_the_shipped_bundle_is_whole_small_and_marked() -> None:
    bundle = open_bundle(SHIPPED, kinds=["biomedgpt"])
    verify_bundle(bundle)
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 6e6
    assert bundle.card == train_drafting.CARD
    assert "phantom – not for patients" in bundle.model_version().name


def test_the_shipped_bundle_reports_unseen_films() -> None:
    """A floor over few films; the benchmark holds the figures over many."""
    score = score_drafter(Drafter.load(open_bundle(SHIPPED), torch.device("cpu")), range(90_000, 90_060), size=256)
    assert score.named >= 0.85
    assert score.normal_kept >= 0.85
    assert score.sides_right >= 0.95
    assert max(score.false_mentions.values()) <= 0.1
