"""Where the engine of a reading keeps what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.choices import engine_options, model_cache
from dicom_node.settings import defaults_folder, load_settings


def test_beside_the_data_of_a_node(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("data: store")
    settings = load_settings(tmp_path / "node.yaml")
    assert engine_options(settings, "chest_xray").cache == (tmp_path / "store" / "model-cache").resolve()


def test_by_the_user_and_never_beside_the_shipped_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = load_settings(defaults_folder() / "node.yaml")
    assert model_cache(settings) == tmp_path / "wetread" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert model_cache(settings) == tmp_path / "home" / ".cache" / "wetread" / "models"
