"""`wetread findings`: faults by file and line, what a model makes of the words, and a preview of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dicom_node import findings_check, findings_preview
from dicom_node.errors import SettingsError
from dicom_node.findings_preview import Choice
from dicom_node.phantom_dicom import phantom_dx
from inference.errors import BundleError, CatalogueError
from inference.phantoms.draw import draw_phantom

SHIPPED = Path(__file__).parents[2] / "config" / "findings" / "chest_xray.yaml"
PHANTOM = Choice("chest_xray", "phantom", "")

Catalogue = dict[str, Any]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def written() -> Catalogue:
    data: Catalogue = yaml.safe_load(SHIPPED.read_text("utf-8"))
    return data


def save(path: Path, data: Catalogue) -> str:
    path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
    return str(path)


def test_those_that_ship_are_known_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert findings_check.run(["chest_xray", "ct_head", str(SHIPPED)], None) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["ok"] * 3
    assert "chest_xray 2, 15 findings, 14 kinds of image" in told[0]


def test_a_file_that_is_not_there_names_those_that_ship() -> None:
    with pytest.raises(SettingsError, match="chest_xray, ct_chest, ct_head, general, mammography"):
        findings_check.run(["chest"], None)


@pytest.mark.parametrize("name", ["../findings/chest_xray", "../node", ""])
def test_a_name_is_no_way_out_of_the_folder(name: str) -> None:
    with pytest.raises(SettingsError, match="no such catalogue"):
        findings_check.run([name], None)


def test_faults_are_told_by_file_and_line_and_the_rest_is_checked(
    tmp_path: Path, written: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    written["findings"][1]["urgency"] = "soon"
    written["colour"] = "red"
    bad = save(tmp_path / "bad.yaml", written)
    lines = Path(bad).read_text("utf-8").splitlines()
    wanted = [next(n for n, line in enumerate(lines, 1) if words in line) for words in ("urgency: soon", "colour: red")]
    assert findings_check.run([bad, "chest_xray"], None) == 2
    told = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in told] == ["FAULT", "FAULT", "ok"]
    assert f"{bad}:{wanted[0]}: finding 2 (pneumomediastinum): urgency: should be 'STAT', 'urgent' or 'routine'" in told[0]
    assert f"{bad}:{wanted[1]}: colour: unknown key; allowed: name, version, scope" in told[1]


def test_a_model_cuts_no_prompt_and_tells_sides_apart(
    tmp_path: Path, written: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    """One finding whose sides are the same words in another order: this BERT has learnt them, and finds them nearly one."""
    first = written["findings"][0]
    first["negative"] = [prompt + " " for prompt in first["positive"]]
    near = save(tmp_path / "near.yaml", written)
    assert findings_check.run([near], "phantom") == 0
    told = capsys.readouterr().out
    assert "finding pneumothorax: its positive and negative prompts are nearly one to this model (cosine 1.000)" in told
    assert "no picture can get a probability outside 0.50 to 0.50" in told
    assert "the model was not trained for pneumomediastinum, " in told
    assert "finding pleural_effusion" not in told
    first["negative"] = ["lung " * 55]
    written["templates"] = ["{} " + "of the lung " * 20]
    assert findings_check.run([save(tmp_path / "long.yaml", written)], "phantom") == 2
    assert "FAULT" in (told := capsys.readouterr().out)
    assert "is longer than this model reads" in told


def test_a_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle here"):
        findings_check.run(["chest_xray"], str(tmp_path))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A drawn pneumothorax, its negative, and a file that is no picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    film = draw_phantom(7, frozenset({"pneumothorax"})).pixels
    Image.fromarray(film).save(folder / "a film.png")
    Image.fromarray(np.invert(film)).save(folder / "negative.png")
    (folder / "notes.txt").write_text("nothing to see")
    return folder


def preview(paths: list[Path], capsys: pytest.CaptureFixture[str], choice: Choice = PHANTOM) -> dict[str, Any]:
    assert findings_preview.run(paths, choice, as_json=True) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_preview_as_json(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = preview([pictures], capsys)
    assert told["catalogue"]["name"] == "chest_xray"
    film, negative = told["studies"]
    assert [film["images"][0][name] for name in ("modality", "judged", "reason")] == ["CR", True, ""]
    found = {finding["key"]: finding for finding in film["findings"]}
    assert found["pneumothorax"]["decision"] == "positive"
    assert found["pneumothorax"]["probability"] > 0.5
    assert [found["pneumothorax"][name] for name in ("image", "aggregation")] == ["a film.png", "the only image"]
    assert found["rib_fracture"]["decision"] == "not assessable"
    assert not negative["images"][0]["judged"]
    assert "its tags say CR and name no body part and no view" in negative["images"][0]["reason"]
    assert {finding["decision"] for finding in negative["findings"]} == {"not assessable"}
    assert [item["file"] for item in told["skipped"]] == ["notes.txt"]


def test_preview_for_a_person(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings_preview.run([pictures], PHANTOM, as_json=False) == 0
    told = capsys.readouterr().out
    for words in ("zero-shot probabilities, not calibrated", "a film.png", "Pneumothorax", "positive", "negative.png", "no: "):
        assert words in told
    assert "notes.txt" in told


def test_images_of_a_study_are_judged_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two films of one study: one table, and the film with the finding is named."""
    paths = []
    for number, findings in enumerate((frozenset[str](), frozenset({"pneumothorax"})), 1):
        dataset = phantom_dx(7, findings, study_uid="1.2.3", instance_number=number)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        paths.append(tmp_path / f"{number}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    (study,) = preview(paths, capsys)["studies"]
    found = {finding["key"]: finding for finding in study["findings"]}
    assert found["pneumothorax"]["decision"] == "positive"
    assert [found["pneumothorax"][name] for name in ("image", "aggregation")] == ["2.dcm", "highest of 2 images"]


def test_preview_of_nothing_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert findings_preview.run([tmp_path / "notes.txt"], PHANTOM, as_json=False) == 1
    assert "notes.txt" in capsys.readouterr().out


def test_preview_by_a_catalogue_of_ones_own(
    pictures: Path, tmp_path: Path, written: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    written["findings"][2] |= {"threshold": 0.5, "abstain": [0.0, 0.9]}
    mine = save(tmp_path / "mine.yaml", written)
    film = preview([pictures / "a film.png"], capsys, Choice(mine, "phantom", "DX"))["studies"][0]
    assert film["images"][0]["modality"] == "DX"
    assert film["findings"][2]["decision"] == "not assessable"
    assert "too near the threshold" in film["findings"][2]["reason"]
    written["findings"] = []
    with pytest.raises(CatalogueError, match="at least 1"):
        findings_preview.run([pictures], Choice(save(tmp_path / "bad.yaml", written), "phantom", ""), as_json=False)
