"""`wetread models compare` as a user runs it, on drawn films with known findings."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.errors import SettingsError
from inference.bundles import open_bundle, write_manifest
from inference.errors import LabelsError
from inference.phantoms import KEYS, bundle_folder, draw_phantom
from inference.triage.contrastive import JUDGES
from inference.triage.open_clip_folder import WEIGHTS

FILMS = 6


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn films as PNG, a table of what was drawn, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("films")
    rows = [",".join(("file", "patient", *KEYS))]
    for number in range(FILMS):
        film = draw_phantom(96_000 + number, size=200)
        Image.fromarray(film.pixels).save(folder / f"{number}.png")
        rows.append(",".join((f"{number}.png", str(number), *(str(int(key in film.findings)) for key in KEYS))))
    (folder / "notes.txt").write_text("no picture", "utf-8")
    (folder.parent / "labels.csv").write_text("\n".join(rows), "utf-8")
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom with its image head turned round: it says the opposite of much."""
    folder = tmp_path_factory.mktemp("other") / "bundle"
    shutil.copytree(bundle_folder("biomedclip"), folder)
    state = load_file(folder / WEIGHTS)
    name = next(name for name in state if name.startswith("visual.head") and state[name].ndim == 2)
    state[name] = torch.flip(state[name], dims=(0,))
    save_file(state, folder / WEIGHTS)
    learnt = json.loads((folder / JUDGES).read_text("utf-8"))
    (folder / JUDGES).write_text(json.dumps({"findings": learnt["findings"]}), "utf-8")  # it tells no kinds of image apart
    write_manifest(folder, open_bundle(bundle_folder("biomedclip")).card)
    return folder


def compare(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["models", "compare", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.output


def test_a_model_agrees_with_itself_and_differs_from_another(tmp_path: Path, films: Path, other: Path) -> None:
    out, table = tmp_path / "out.json", tmp_path / "out.csv"
    labels = films.parent / "labels.csv"
    code, said = compare("phantom", other, "--source", films, "--labels", labels, "--json", out, "--csv", table)
    assert code == 0
    assert f"{FILMS} studies; 1 files or images left out" in said
    result = json.loads(out.read_text("utf-8"))
    assert result["a"]["digest"] != result["b"]["digest"]
    by_key = {one["key"]: one for one in result["findings"]}
    assert {by_key[key]["studies"] for key in KEYS} == {FILMS}
    assert sum(by_key[key]["labelled"] for key in KEYS) > 0
    flips = [flip for one in result["findings"] for flip in one["flips"]]
    assert flips
    assert {flip["study"] for flip in flips} <= {f"{number}.png" for number in range(FILMS)}
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    assert sum(bool(row["study"]) for row in rows) == len(flips)
    code, _ = compare("phantom", "phantom", "--source", films, "--json", out)
    same = json.loads(out.read_text("utf-8"))["findings"]
    assert all(one["agreement"] in (1.0, None) and not one["flips"] for one in same)
    assert any(one["agreement"] == 1.0 for one in same)


def test_mistakes_are_told(tmp_path: Path, films: Path) -> None:
    with pytest.raises(SettingsError, match="no such file or folder"):
        compare("phantom", "phantom", "--source", tmp_path / "absent")
    strange = tmp_path / "labels.csv"
    strange.write_text(f"file,patient,{KEYS[0]}\nelsewhere.png,1,1\n", "utf-8")
    with pytest.raises(LabelsError, match="no row is about an image"):
        compare("phantom", "phantom", "--source", films, "--labels", strange)
