"""The shipped phantom BiomedCLIP: of the real form, small, marked, and right on films it has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.bundles import PHANTOM_MARK, open_bundle, verify_bundle
from inference.phantoms import KEYS, bundle_folder, draw_phantom
from inference.phantoms.films import BENCHMARK_SEEDS
from inference.phantoms.train_triage import area_under_curve
from inference.reading import Decision, Frame, FrameSource, UseMode
from inference.triage.catalogue import FindingsCatalogue, load_catalogue
from inference.triage.contrastive import Triage
from inference.triage.judge import judge
from inference.triage.open_clip_folder import read_config

SHIPPED = Path(__file__).resolve().parents[3] / "config" / "findings" / "chest_xray.yaml"
FOLDER = bundle_folder("biomedclip")


@pytest.fixture(scope="module")
def catalogue() -> FindingsCatalogue:
    return load_catalogue(SHIPPED)


@pytest.fixture(scope="module")
def triage(catalogue: FindingsCatalogue) -> Triage:
    bundle = open_bundle(FOLDER, kinds=["biomedclip"])
    verify_bundle(bundle)
    return Triage.load(bundle, catalogue, torch.device("cpu"))


def frame(seed: int, findings: frozenset[str], size: int) -> Frame:
    pixels = draw_phantom(seed, findings, size).pixels
    return Frame(pixels, FrameSource(f"2.25.{seed}", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.1"), "DX", "CHEST", "PA")


def test_form_size_and_marks(triage: Triage) -> None:
    config = read_config(FOLDER)["model_cfg"]
    assert config["vision_cfg"]["timm_model_name"].startswith("test_vit")
    assert config["text_cfg"]["hf_pooler_type"] == "cls_last_hidden_state_pooler"
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8 * 2**20
    card = triage.bundle.card
    assert card.phantom
    assert set(card.allowed_modes) == set(UseMode)
    assert PHANTOM_MARK in triage.bundle.model_version().name
    assert triage.judged == set(KEYS)


@pytest.mark.parametrize("size", [pytest.param(256, id="256 pixels"), pytest.param(700, id="700 pixels")])
@pytest.mark.parametrize("key", [*KEYS, ""])
def test_the_drawn_finding_is_found(triage: Triage, catalogue: FindingsCatalogue, key: str, size: int) -> None:
    """Oracle: what was drawn. Three unseen films of each; at most one decision of the eighteen may be wrong."""
    wanted = frozenset([key]) if key else frozenset()
    wrong = 0
    for seed in (41, 42, 43):
        film = [frame(seed, wanted, size)]
        findings = judge(catalogue, film, triage.score(film), triage.judged)
        positive = {finding.key for finding in findings if finding.decision is Decision.POSITIVE}
        wrong += len(positive ^ wanted)
        others = {finding.decision for finding in findings if finding.key not in KEYS}
        assert others == {Decision.NOT_ASSESSABLE}
    assert wrong <= 1


def test_ranks_unseen_films(triage: Triage, catalogue: FindingsCatalogue) -> None:
    """The benchmark's bar on a sample: 90 films, area under the ROC curve at least 0.95 for each finding."""
    films = [draw_phantom(seed, size=224) for seed in range(BENCHMARK_SEEDS, BENCHMARK_SEEDS + 90)]
    source = FrameSource("2.25.1", "1.2.840.10008.5.1.4.1.1.1.1", "2.25.1")
    scores = triage.score([Frame(film.pixels, source, "DX") for film in films])
    columns = [catalogue.keys.index(key) for key in KEYS]
    labels = np.array([[key in film.findings for key in KEYS] for film in films])
    assert min(area_under_curve(scores[:, columns], labels)) >= 0.95
