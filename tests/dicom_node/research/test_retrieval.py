"""Text → image and image → image over an index of drawn films, in process and as a killed process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.errors import SettingsError
from dicom_node.phantom_dicom import phantom_ct, phantom_dx
from dicom_node.research.retrieval import Query, embed, filter_of, search
from dicom_node.storage.vectors import PictureFilter, VectorIndex
from inference.errors import BundleError
from inference.phantoms import bundle_folder, draw_phantom
from tests.support import save

FINDINGS = ((), ("pneumothorax",), ("device",), ("pleural_effusion",), ("cardiomegaly",))
pytestmark = pytest.mark.skipif(
    not (bundle_folder("biomedclip") / "bundle.json").is_file(), reason="the phantom bundle is not in this checkout"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    for number in range(20):
        keys = FINDINGS[number % len(FINDINGS)]
        save(phantom_dx(200 + number, list(keys), size=160), root / f"{'-'.join(keys) or 'normal'}_{number:02d}.dcm")
    save(phantom_dx(200, [], size=160), root / "copy" / "again.dcm")  # the first film once more
    for number, slice_ in enumerate(phantom_ct(1, 2, size=64)):
        save(slice_, root / f"slice{number}.dcm")
    Image.fromarray(draw_phantom(300, frozenset(["device"]), 160).pixels).save(root / "plain.png")
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def index(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "archive"
    assert embed(archive, folder, None, None, "DX") == 0
    return folder


def ask(index: Path, capsys: pytest.CaptureFixture[str], query: Query) -> list[dict[str, object]]:
    capsys.readouterr()
    assert search(index, query, None, None, as_json=True) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_every_picture_once_and_no_patient(index: Path, archive: Path) -> None:
    held = VectorIndex.open(index)
    assert len(held) == 23  # 20 films, 2 slices, 1 plain image; the copy is the same object
    vectors = held.matrix().astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    assert b"PHANTOM-DX" not in (index / "index.sqlite").read_bytes()
    assert embed(archive, index, None, None, "DX") == 0
    assert len(VectorIndex.open(index)) == 23


@pytest.mark.parametrize("key", ["pneumothorax", "device"])
def test_words_find_the_films_that_show_it(index: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    words = {"pneumothorax": "a chest radiograph showing a pneumothorax", "device": "a pacemaker device in place"}[key]
    found = ask(index, capsys, Query(words, None, PictureFilter(modalities=("DX",)), 4))
    names = [Path(str(hit["name"])).name for hit in found]
    assert sum(name.startswith(key) or name == "plain.png" for name in names) >= 3, names
    cosines = [float(str(hit["cosine"])) for hit in found]
    assert cosines == sorted(cosines, reverse=True)


def test_a_picture_finds_itself_and_filters_hold(index: Path, archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = archive / "cardiomegaly_04.dcm"
    (best, *_) = ask(index, capsys, Query(None, film, PictureFilter(), 3))
    assert Path(str(best["name"])).name == film.name
    assert float(str(best["cosine"])) > 0.999
    assert {hit["modality"] for hit in ask(index, capsys, Query(None, film, PictureFilter(modalities=("CT",)), 9))} == {"CT"}
    assert ask(index, capsys, Query("film", None, PictureFilter(since="20990101"), 3)) == []


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (("cr, dx", "", "2026-01-02", "20260103"), PictureFilter(("CR", "DX"), (), "20260102", "20260103")),
        (("", "chest,", "", ""), PictureFilter((), ("CHEST",))),
    ],
)
def test_filters_as_typed(typed: tuple[str, str, str, str], wanted: PictureFilter) -> None:
    assert filter_of(*typed) == wanted


def test_what_a_user_must_change(index: Path, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--since"):
        filter_of("", "", "yesterday", "")
    with pytest.raises(SettingsError, match="nothing to search for"):
        search(index, Query("  ", None, PictureFilter()), None, None, as_json=True)
    with pytest.raises(SettingsError, match="fewer words"):
        search(index, Query("pneumothorax " * 400, None, PictureFilter()), None, None, as_json=True)
    with pytest.raises(SettingsError, match="one picture is needed"):
        search(index, Query(None, archive, PictureFilter()), None, None, as_json=True)
    with pytest.raises(SettingsError, match="no such file"):
        embed(tmp_path / "absent", index, None, None, "")
    (tmp_path / "node.yaml").write_text("readings: {a: {triage: nowhere, catalogue: chest_xray}}")
    with pytest.raises(BundleError, match="no model bundle here"):
        search(index, Query("film", None, PictureFilter()), tmp_path / "node.yaml", None, as_json=True)


def test_a_killed_run_goes_on(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    command = [sys.executable, "-m", "dicom_node.cli", "embed", "--source", str(archive), "--index", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "index.sqlite").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (folder / "vectors.f16").exists():
        with (folder / "vectors.f16").open("ab") as file:
            file.write(b"\x00" * 77)  # what a kill inside a write leaves
    assert embed(archive, folder, None, None, "DX") == 0
    held = VectorIndex.open(folder)
    assert len(held) == 23
    assert (folder / "vectors.f16").stat().st_size == 23 * held.model.width * 2
    np.testing.assert_allclose(np.linalg.norm(held.matrix().astype(np.float32), axis=1), 1, atol=2e-3)
