"""Bundles: what is refused, and with which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.bundles import MANIFEST, Bundle, BundleCard, check_mode, open_bundle, verify_bundle, write_manifest
from inference.errors import BundleError, LicenceError
from inference.reading import UseMode

CARD = BundleCard(
    name="BiomedGPT",
    kind="biomedgpt",
    version="base",
    source="somewhere@1",
    licence="academic research only",
    intended_use="research",
    allowed_modes=(UseMode.RESEARCH, UseMode.SHADOW),
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "sub" / "vocab.txt").write_text("a\n")
    return write_manifest(tmp_path, CARD)


def test_what_was_written_is_read_back(bundle: Bundle) -> None:
    again = open_bundle(bundle.folder)
    assert again == bundle
    assert again.digest == bundle.digest
    assert {name for name, _ in again.files} == {"model.safetensors", "sub/vocab.txt"}
    verify_bundle(again)


def test_the_digest_follows_every_file(bundle: Bundle) -> None:
    before = bundle.digest
    (bundle.folder / "sub" / "vocab.txt").write_text("b\n")
    assert write_manifest(bundle.folder, CARD).digest != before


def _edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_text())
        change(data)
        (folder / MANIFEST).write_text(json.dumps(data))

    return act


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "wetread models import"),
    "not JSON": (lambda folder: (folder / MANIFEST).write_text("{"), "damaged or incomplete"),
    "a list": (lambda folder: (folder / MANIFEST).write_text("[]"), "damaged or incomplete"),
    "another form": (_edit(lambda data: data.update(form=2)), "form 2"),
    "no licence": (_edit(lambda data: data["card"].pop("licence")), "damaged or incomplete"),
    "unknown kind": (_edit(lambda data: data["card"].update(kind="gpt5")), "gpt5"),
    "unknown mode": (_edit(lambda data: data["card"].update(allowed_modes=["clinical"])), "clinical"),
    "leaves the folder": (_edit(lambda data: data["files"].update({"../../etc/passwd": "0"})), "leaves the bundle's folder"),
    "absolute": (_edit(lambda data: data["files"].update({"/etc/passwd": "0"})), "leaves the bundle's folder"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_manifest_is_told(bundle: Bundle, damage: Callable[[Path], None], words: str) -> None:
    damage(bundle.folder)
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle.folder)
    assert words in str(caught.value)
    assert str(bundle.folder) in str(caught.value) or words == "gpt5"


def test_changed_and_missing_files_are_all_named(bundle: Bundle) -> None:
    (bundle.folder / "model.safetensors").write_bytes(b"other")
    (bundle.folder / "sub" / "vocab.txt").unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors differs.*vocab\.txt is missing"):
        verify_bundle(bundle)


def test_another_kind_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="this is a biomedgpt bundle; wanted: biomedclip"):
        open_bundle(bundle.folder, kinds=["biomedclip"])


@pytest.mark.parametrize(
    ("mode", "permission", "allowed"),
    [
        (UseMode.RESEARCH, "", True),
        (UseMode.SHADOW, "", True),
        (UseMode.ASSIST, "", False),
        (UseMode.ASSIST, "   ", False),
        (UseMode.ASSIST, "Dr A., 2026, in writing", True),
    ],
)
def test_the_licence_decides_the_mode(bundle: Bundle, mode: UseMode, permission: str, allowed: bool) -> None:
    if allowed:
        check_mode(bundle, mode, permission)
    else:
        with pytest.raises(LicenceError, match=r"acknowledgements.*BiomedGPT"):
            check_mode(bundle, mode, permission)


def test_a_phantom_says_so_in_its_name(bundle: Bundle) -> None:
    phantom = replace(bundle, card=replace(CARD, phantom=True)).model_version()
    assert phantom.phantom
    assert "phantom – not for patients" in phantom.name
