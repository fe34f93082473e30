"""`wetread models` over small bundles on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dicom_node import models_view
from dicom_node.errors import SettingsError
from dicom_node.models_view import ImportOptions
from inference.bundles import BundleCard, open_bundle, write_manifest
from inference.phantoms import bundle_folder
from inference.reading import UseMode

NONE = ImportOptions()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return _bundle(tmp_path / "bundles" / "one", "One [bundle]")


def _bundle(folder: Path, name: str, *, phantom: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    card = BundleCard(name, "biomedclip", "7", "somewhere@1", "MIT", "research", (UseMode.RESEARCH,), phantom)
    write_manifest(folder, card)
    return folder


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_verify_says_ok(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models_view.verify([str(bundle)]) == 0
    assert "One [bundle] 7, 1 files as they were made" in capsys.readouterr().out


def test_verify_goes_on_after_a_fault_and_names_it(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "weights.safetensors").write_bytes(b"weightz")
    good = _bundle(tmp_path / "good", "Good")
    assert models_view.verify([str(bundle), str(tmp_path / "nowhere"), str(good)]) == 1
    changed, missing, fine = capsys.readouterr().out.splitlines()
    assert "weights.safetensors differs from its sha256" in changed
    assert "no model bundle here" in missing
    assert fine.startswith("ok")


@pytest.mark.parametrize("given", ["its parent", "itself"])
def test_list_shows_what_a_bundle_says_of_itself(bundle: Path, capsys: pytest.CaptureFixture[str], given: str) -> None:
    models_view.show_list(bundle if given == "itself" else bundle.parent)
    out = capsys.readouterr().out
    for words in ("One [bundle] 7 (biomedclip)", "somewhere@1", "MIT", "use modes", str(bundle)):
        assert words in out


def test_list_marks_phantoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _bundle(tmp_path / "phantom", "Drawn", phantom=True)
    (folder.parent / "not a bundle").mkdir()
    models_view.show_list(folder)
    assert "phantom – not for patients" in capsys.readouterr().out


def test_list_of_a_folder_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match="no such folder"):
        models_view.show_list(Path("nowhere"))


@pytest.mark.parametrize(
    ("kind", "path", "out", "options", "said"),
    [
        pytest.param("biomedbert", ".", "new", NONE, "allowed: biomedclip, clip, biomedgpt", id="unknown kind"),
        pytest.param("biomedclip", "nowhere", "new", NONE, "no such file or folder", id="nothing at the path"),
        pytest.param("biomedclip", ".", "full", NONE, "not empty", id="out is in use"),
        pytest.param("biomedclip", ".", "new", ImportOptions(bpe=Path()), "--bpe belongs to biomedgpt", id="bpe"),
        pytest.param("clip", ".", "new", ImportOptions(image_size=224), "--image-size belongs to biomedgpt", id="size"),
        pytest.param(
            "biomedgpt", ".", "new", ImportOptions(text_tower=Path()), "--text-tower belongs to biomedclip", id="tower"
        ),
    ],
)
def test_import_refuses_a_mistake_before_anything_is_made(
    tmp_path: Path, kind: str, path: str, out: str, options: ImportOptions, said: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SettingsError, match=said):
        models_view.import_model(kind, tmp_path / path, tmp_path / out, options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["biomedclip", "biomedgpt"])
def test_import_copies_a_bundle(tmp_path: Path, kind: str) -> None:
    shipped = bundle_folder(kind)
    assert models_view.import_model(kind, shipped, tmp_path / "copy", NONE) == 0
    assert open_bundle(tmp_path / "copy").digest == open_bundle(shipped).digest
    with pytest.raises(SettingsError, match="is a bundle already"):
        models_view.import_model(kind, shipped, tmp_path / "second", ImportOptions(name="mine"))


def test_import_makes_a_bundle_that_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    downloaded = tmp_path / "downloaded"
    shutil.copytree(bundle_folder("biomedclip"), downloaded)
    for left_behind in ("bundle.json", "wetread.json"):
        (downloaded / left_behind).unlink()
    assert models_view.import_model("biomedclip", downloaded, tmp_path / "made", ImportOptions(name="Ours")) == 0
    assert models_view.verify([str(tmp_path / "made")]) == 0
    assert "Ours" in capsys.readouterr().out
