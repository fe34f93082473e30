"""`wetread calibrate` and `wetread probe fit` on drawn films of another hospital, and the node that then reads with them."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from PIL import Image

from dicom_node import cli
from dicom_node.choices import engine_options
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.reading_json import from_json, to_json
from dicom_node.settings import load_settings
from inference.bundles import PHANTOM_MARK
from inference.engine import Engine
from inference.errors import HeadError
from inference.phantoms.shift import draw_shifted
from inference.reading import Decision, Frame, FrameSource, Method, Reading
from inference.triage.heads.manifest import read_head
from tests.conftest import shared
from tests.support import save

FILMS = 72
SHIFT = "processed"
DRAWN = ("pneumothorax", "pleural_effusion")
Run = Callable[..., tuple[int, str]]


def drawn(seed: int) -> frozenset[str]:
    return frozenset(key for bit, key in enumerate(DRAWN) if seed >> bit & 1)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PNG films of half as many patients, with labels of two findings; a text file and a lateral view's worth of nothing."""
    folder = tmp_path_factory.mktemp("films")
    rows = []
    for seed in range(FILMS):
        name = f"{'ab'[seed % 2]}/{seed}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(draw_shifted(seed, SHIFT, drawn(seed), size=160).pixels).save(folder / name)
        rows.append([name, f"SECRET-{seed // 8 * 4 + seed % 4}", *(int(key in drawn(seed)) for key in DRAWN), seed])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "patient", *DRAWN, "age"], *rows])
    return folder


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    structlog.reset_defaults()


@pytest.fixture
def wetread(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["wetread", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    return run


@pytest.fixture(scope="module")
def heads(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibration and a probe fitted on the films, in folders of these names."""
    folder = tmp_path_factory.mktemp("heads")
    given = ("--labels", films / "labels.csv", "--images", films, "--bundle", "phantom", "--catalogue", "chest_xray")
    for words, name in ((("calibrate", "--abstain", "0.2"), "calibration"), (("probe", "fit"), "probe")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["wetread", *map(str, (*words, *given, "--out", folder / name, "--date", "2026-11-22"))])
            with pytest.raises(SystemExit) as end:
                cli.main()
            assert not end.value.code
    return folder


def test_a_calibration_is_written_with_its_report(heads: Path) -> None:
    folder = heads / "calibration"
    card = read_head(folder, "calibration")
    assert set(DRAWN) <= {one.key for one in card.findings}
    assert (card.name, card.version, card.made) == ("calibration", "1", "2026-11-22")
    assert card.files.keys() == {"report.md", "reliability.png"}
    with Image.open(folder / "reliability.png") as image:
        assert np.asarray(image.convert("L")).std() > 5
    report = (folder / "report.md").read_text("utf-8")
    assert PHANTOM_MARK in report
    for words in ("2 of", "pneumothorax", "one collection", "2.0 films for each patient", card.tie.model_digest):
        assert words in report


@pytest.mark.parametrize("name", ["calibration", "probe"])
def test_no_patient_is_in_what_is_written(heads: Path, name: str) -> None:
    for path in (heads / name).iterdir():
        assert b"SECRET" not in path.read_bytes()


def test_the_same_films_make_the_same_head(films: Path, heads: Path, tmp_path: Path, wetread: Run) -> None:
    code, said = wetread(
        "calibrate", "--labels", films / "labels.csv", "--images", films, "--bundle", "phantom", "--abstain", "0.2", "--out",
        tmp_path / "calibration", "--date", "2026-11-22",
    )  # fmt: skip
    assert code == 0, said
    assert "columns not used: age" in said
    again = (tmp_path / "calibration" / "head.json").read_bytes()
    assert again == (heads / "calibration" / "head.json").read_bytes()


def film(seed: int) -> Frame:
    source = FrameSource(f"1.2.{seed}", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3")
    return Frame(draw_shifted(seed, SHIFT, drawn(seed), size=160).pixels, source, "DX", "CHEST", "PA")


def node(folder: Path, heads: Path, *lines: str) -> Path:
    text = "readings:\n  films:\n    drafting: null\n" + "".join(f"    {line}\n" for line in lines)
    path = folder / "node.yaml"
    path.write_text(text.replace("HEADS", str(heads)), "utf-8")
    return path


def read(config: Path, seed: int) -> Reading:
    return Engine.load(engine_options(load_settings(config), "films")).read([film(seed)])


def test_the_node_reads_with_calibration_and_probe(heads: Path, tmp_path: Path) -> None:
    reading = read(node(tmp_path, heads, "calibration: HEADS/calibration", "probe: HEADS/probe"), 1003)
    found = {finding.key: finding for finding in reading.findings}
    for key in read_head(heads / "probe", "probe").judged:
        assert found[key].method is Method.PROBE
        assert found[key].decision is Decision.POSITIVE
    assert [one.kind for one in reading.heads] == ["calibration", "probe"]
    assert not reading.shadow
    assert from_json(to_json(reading)) == reading


def test_a_probe_in_shadow_is_kept_beside(heads: Path, tmp_path: Path) -> None:
    plain = read(node(tmp_path, heads), 1003)
    reading = read(node(tmp_path, heads, "probe: HEADS/probe", "probe_role: shadow"), 1003)
    assert reading.findings == plain.findings
    assert not plain.heads
    assert {one.method for one in reading.findings} == {Method.ZERO_SHOT}
    assert {one.method for one in reading.shadow} == {Method.PROBE}
    assert {one.key for one in reading.shadow} == set(read_head(heads / "probe", "probe").judged)
    assert [one.kind for one in reading.heads] == ["probe in shadow"]
    assert from_json(to_json(reading)) == reading


def test_check_names_the_heads_and_what_does_not_fit(heads: Path, tmp_path: Path, wetread: Run) -> None:
    node(tmp_path, heads, "calibration: HEADS/calibration")
    _, said = wetread("check", "--config", tmp_path / "node.yaml")
    assert "calibration calibration 1 of 2026-11-22 (72 films): pneumothorax, pleural_effusion" in said
    broken = tmp_path / "broken"
    shutil.copytree(heads / "calibration", broken)
    data = json.loads((broken / "head.json").read_text("utf-8"))
    data["head"]["findings"][0]["threshold"] = 0.9
    (broken / "head.json").write_text(json.dumps(data), "utf-8")
    node(tmp_path, heads, f"calibration: {broken}")
    code, said = wetread("check", "--config", tmp_path / "node.yaml")
    assert code == 1
    assert "changed by hand" in said


def test_another_models_head_stops_the_start(heads: Path, tmp_path: Path) -> None:
    options = engine_options(load_settings(node(tmp_path, heads, "probe: HEADS/probe")), "films")
    other = tmp_path / "other"
    shutil.copytree(options.triage, other)
    manifest = json.loads((other / "bundle.json").read_text("utf-8"))
    manifest["files"]["vocab.txt"] = "0" * 64
    (other / "bundle.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(HeadError, match="its numbers mean nothing there"):
        Engine.load(replace(options, triage=other))


def test_labels_by_uid_find_dicom_films_and_leave_out_what_the_node_would(tmp_path: Path, wetread: Run) -> None:
    """Also: nothing can be fitted on so few, and the exit status says so."""
    lines = ["sop_instance_uid,mrn,pneumothorax"]
    for seed in range(4):
        film = phantom_dx(seed, sorted(drawn(seed)), size=128)
        if seed == 3:
            film.ViewPosition = "LL"
        save(film, tmp_path / "films" / f"{seed}")
        lines.append(f"{film.SOPInstanceUID},SECRET-{seed},{seed % 2}")
    (tmp_path / "films" / "notes.txt").write_text("SECRET")
    (tmp_path / "labels.csv").write_text("\n".join(lines), "utf-8")
    code, said = wetread(
        "calibrate",
        "--labels",
        "labels.csv",
        "--images",
        "films",
        "--patient-column",
        "mrn",
        "--bundle",
        "phantom",
        "--out",
        "out",
    )
    assert code == 1, said
    assert "No finding could be fitted" in said
    assert not (tmp_path / "out" / "head.json").exists()
    report = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "Not usable" in report
    assert "view LL is not covered" in report
    assert "(line 5)" in report
    assert "3 films of 3 patients" in report
    assert "SECRET" not in report + said


BAD = {
    "labels missing": (("--labels", "none.csv"), "none.csv: cannot be read"),
    "images missing": (("--images", "none"), "--images none: no such folder"),
    "out is full": (("--out", "."), "is there already and is not empty"),
    "two wishes": (("--sensitivity", "0.9", "--specificity", "0.9"), "not both"),
    "wish of one": (("--sensitivity", "1"), "must lie between 0 and 1"),
    "method": (("--method", "magic"), "allowed: temperature, platt, isotonic, auto"),
    "prevalence of nothing": (("--prevalence", "flu=0.1"), "--prevalence flu: no finding of the catalogue"),
    "prevalence no number": (("--prevalence", "nodule"), "KEY=SHARE"),
    "date": (("--date", "yesterday"), "YYYY-MM-DD"),
    "bundle and config": (("--config", "node.yaml"), "either --bundle"),
    "bundle": (("--bundle", "none"), "no model bundle here"),
}


@pytest.mark.parametrize(("words", "says"), BAD.values(), ids=BAD)
def test_a_mistake_ends_with_a_sentence(films: Path, wetread: Run, words: tuple[str, ...], says: str) -> None:
    given = {"--labels": str(films / "labels.csv"), "--images": str(films), "--out": "out", "--bundle": "phantom"}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    Path("kept.txt").touch()
    code, said = wetread("calibrate", *(word for pair in given.items() for word in pair))
    assert code == 2, said
    assert says in said
    assert not Path("out").exists()


ROWS = {
    "file not there": (["c/99.png,P,1"], "line 2, column 'file': there is no such image under"),
    "name found twice": (["0.png,P,1"], "line 2, column 'file': 2 files under"),
    "two names of one picture": (["a/0.png,P,1", "copy/0.png,P,1"], "line 3: the same picture as line 2"),
    "no picture at all": (["copy/text.png,P,1"], "none of its images can be used: .*not a readable image.*line 2"),
}


@pytest.mark.parametrize(("rows", "says"), ROWS.values(), ids=ROWS)
def test_rows_and_images_must_agree(films: Path, tmp_path: Path, wetread: Run, rows: list[str], says: str) -> None:
    shutil.copytree(films, tmp_path / "films")
    (tmp_path / "films" / "copy").mkdir()
    shutil.copy(films / "a" / "0.png", tmp_path / "films" / "copy" / "0.png")
    (tmp_path / "films" / "copy" / "text.png").write_text("no picture")
    (tmp_path / "labels.csv").write_text("\n".join(["file,patient,nodule", *rows]), "utf-8")
    code, said = wetread("probe", "fit", "--labels", "labels.csv", "--images", "films", "--bundle", "phantom", "--out", "out")
    assert code == 2, said
    assert re.search(says, said), said


def test_few_shots_learn_from_few(films: Path, tmp_path: Path, wetread: Run) -> None:
    code, said = wetread(
        "probe",
        "fit",
        "--few-shot",
        "4",
        "--labels",
        films / "labels.csv",
        "--images",
        films,
        "--bundle",
        "phantom",
        "--out",
        "out",
    )
    assert code in (0, 1), said
    report = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "Of each finding 4 films with and without it were learned from" in report
    assert "zero-shot" in report


def test_real_films_get_no_calibration_from_a_phantom_unless_it_tells_them_apart(tmp_path: Path, wetread: Run) -> None:
    corpus = shared("WETREAD_DICOM", "dicom").parent / "cxr-labelled"
    if not corpus.is_dir():
        pytest.skip("no folder cxr-labelled beside the shared corpus of DICOM files")
    names = tmp_path / "names.yaml"
    names.write_text(
        "names:\n  No Finding: none\n  Normal: none\n  Pneumonia: pneumonia\n  Effusion: pleural_effusion\n"
        "unmentioned: {NIH ChestX-ray14: absent}\n",
        "utf-8",
    )
    with (corpus / "labels.csv").open(encoding="utf-8") as file:
        told = {name for row in csv.DictReader(file) for name in row["labels"].split("|")}
    known = ("No Finding", "Normal", "Pneumonia", "Effusion")
    extra = "".join(f"  {json.dumps(name)}: unknown\n" for name in sorted(told) if name not in known)
    names.write_text(names.read_text("utf-8").replace("unmentioned", f"{extra}unmentioned"), "utf-8")
    code, said = wetread(
        "calibrate",
        "--labels",
        corpus / "labels.csv",
        "--images",
        corpus,
        "--names",
        names,
        "--bundle",
        "phantom",
        "--out",
        "out",
    )
    if code == 2:  # the model took none of them for a chest film
        assert "none of its images can be used" in said
        return
    report = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert PHANTOM_MARK in report
    fitted = read_head(tmp_path / "out", "calibration").findings if code == 0 else ()
    assert code == (0 if any(not one.unusable for one in fitted) else 1)
    for one in fitted:
        area = report.split(f"### {one.key}\n")[1].split("area under the ROC curve ")[-1]
        assert (float(area.split("(")[1].split("–")[0]) > 0.5) == (not one.unusable)
