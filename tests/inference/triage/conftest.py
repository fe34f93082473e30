"""A tiny untrained model of the real form, for tests of loading and scoring."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.bundles import Bundle
from inference.phantoms.clip_form import write_form
from inference.phantoms.train_triage import save
from inference.triage.catalogue import FindingsCatalogue, load_catalogue
from inference.triage.contrastive import JUDGES
from inference.triage.open_clip_folder import open_folder

CPU = torch.device("cpu")
SHIPPED = Path(__file__).resolve().parents[3] / "config" / "findings" / "chest_xray.yaml"


@pytest.fixture(scope="session")
def catalogue() -> FindingsCatalogue:
    return load_catalogue(SHIPPED)


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory, catalogue: FindingsCatalogue) -> Bundle:
    folder = tmp_path_factory.mktemp("random") / "bundle"
    folder.mkdir()
    texts = [text for entry in catalogue.findings for text in catalogue.texts(entry.positive + entry.negative)]
    write_form(folder, texts)
    torch.manual_seed(1)
    return save(folder, open_folder(folder, CPU, weights=False).net)


@pytest.fixture(scope="session")
def judges_all(random_bundle: Bundle) -> Bundle:
    """The same bundle without the list of findings it knows."""
    files = tuple((name, digest) for name, digest in random_bundle.files if name != JUDGES)
    return Bundle(random_bundle.folder, random_bundle.card, files)
