"""Where the engine of a reading keeps what it measured, and what documents are written in."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.choices import document_options, engine_options, model_cache
from dicom_node.errors import SettingsError
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


@pytest.mark.parametrize("language", ["en", "de", "es", "de-CH", "es-MX"])
def test_documents_speak_the_language_of_the_settings(tmp_path: Path, language: str) -> None:
    (tmp_path / "node.yaml").write_text(f"documents: {{language: {language}}}")
    options = document_options(load_settings(tmp_path / "node.yaml"))
    assert (options.language, options.words.language) == (language, language)


@pytest.mark.parametrize("language", ["fr", "german", "de_DE", "''"])
def test_a_language_that_is_not_on_offer_stops_the_node(tmp_path: Path, language: str) -> None:
    (tmp_path / "node.yaml").write_text(f"documents: {{language: {language}}}")
    with pytest.raises(SettingsError, match=r"(?s)documents\.language.*allowed: en, de, es"):
        load_settings(tmp_path / "node.yaml")
